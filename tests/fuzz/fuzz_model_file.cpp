// SPDX-License-Identifier: Apache-2.0
// Model files and rules files: any text is read and planned, or refused by an Error that names the file.
#include "kernels/device/check.h"
#include "runtime/plan/planner.h"
#include "tests/fuzz/fuzz_target.h"
#include "tools/planning/model_file.h"

namespace lockstep {
namespace {

constexpr size_t kMostPlanned = 500;  // variables: larger plans are right or wrong like these, only slower

void plan(const DescribedModel& model) {
  if (model.variables.declarations().size() > kMostPlanned) return;
  const auto adam = make_optimizer("adam");
  for (const bool per_rank : {false, true})
    make_plan({.variables = model.variables,
               .optimizer = *adam,
               .settings = {.mesh = {{"data", 2}, {"model", 4}},
                            .layout_rules = model.layouts.rules(),
                            .zero = per_rank ? 3 : 0,
                            .copies = per_rank ? Copies::per_rank : Copies::per_node,
                            .workload = model.workload}});
}

}  // namespace

std::vector<std::string> built_in_seeds() { return {""}; }

}  // namespace lockstep

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace lockstep;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  DescribedModel model;
  try {
    model = read_model_text(text, "m.toml");
  } catch (const Error& error) {
    check_message(error.what(), "m.toml");
  }
  try {
    plan(model);
  } catch (const Error& error) {
    check_message(error.what(), "");
  }
  try {
    read_rules_text(text, "r.toml").find("decoder/0/attention/qkv/weight");
  } catch (const Error& error) {
    check_message(error.what(), "");
  }
  return 0;
}
