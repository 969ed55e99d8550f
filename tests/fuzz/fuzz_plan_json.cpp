// SPDX-License-Identifier: Apache-2.0
// Plan files: any text is refused by an Error that names the file, or is exactly what the plan that was read is written
// as. Mutated plans get the hash of their content, so that more than the hash is tested.
#include <nlohmann/json.hpp>

#include "kernels/device/check.h"
#include "runtime/plan/plan_json.h"
#include "runtime/plan/plan_text.h"
#include "runtime/plan/planner.h"
#include "tests/fuzz/fuzz_target.h"

namespace lockstep {
namespace {

std::string seed(const char* optimizer, const char* mesh, int zero) {
  VariableTable variables;
  variables.parameter("w", {8, 4}, {});
  variables.parameter("gain", {}, {});
  variables.declare({"half", {8}, DType::bf16, Role::parameter, {}, Layout{{"model"}}});
  variables.declare({"table", {4}, DType::i32, Role::frozen_parameter, {}, {}});
  variables.declare({"mean", {2}, DType::f32, Role::statistic, {}, {}, Aggregation::mean});
  LayoutMap layouts;
  layouts.add("w|gain", {{"model", ""}}, "r.toml:2");
  const auto made = make_optimizer(optimizer);
  return plan_to_json(make_plan({.variables = variables,
                                 .optimizer = *made,
                                 .settings = {.mesh = parse_mesh(mesh),
                                              .layout_rules = layouts.rules(),
                                              .virtual_ranks = 4,
                                              .zero = zero,
                                              .accumulation = 1 + zero,
                                              .bucket_bytes = 64,
                                              .copies = zero ? Copies::per_rank : Copies::per_node,
                                              .workload = {16, 128, 64, 1.5e6}}}));
}

// Empty when the plan was read; otherwise why not.
std::string read(std::string_view text) {
  try {
    const Plan plan = plan_from_json(text, "p.json");
    if (nlohmann::json::parse(plan_to_json(plan)) != nlohmann::json::parse(text))
      throw std::logic_error("a plan was read that is written differently");
    for (const PlannedVariable& variable : plan.variables) explain(plan, variable.path);
    return "";
  } catch (const Error& error) {
    check_message(error.what(), "p.json");
    return error.what();
  }
}

}  // namespace

std::vector<std::string> built_in_seeds() {
  return {seed("adam", "data=2,model=2", 0), seed("sgd", "data=1,model=4", 0), seed("adam", "model=2,data=4", 3)};
}

}  // namespace lockstep

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lockstep;
  std::string text(reinterpret_cast<const char*>(data), size);
  const std::string error = read(text), marker = "p.json.hash: expected ";
  const size_t expected = error.find(marker), hash = text.find("\"hash\": \"");
  if (expected == error.npos || hash == text.npos || hash + 25 > text.size()) return 0;
  text.replace(hash + 9, 16, error, expected + marker.size(), 16);
  read(text);
  return 0;
}
