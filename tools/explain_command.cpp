// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <charconv>

#include "runtime/plan_json.h"
#include "runtime/plan_text.h"
#include "tools/command_line.h"
#include "tools/known_name.h"
#include "tools/training_run.h"

namespace lockstep {
namespace {

struct ExplainOptions {
  PlanOptions plan;
  std::string path;  // empty: all variables
  std::string mesh = "data=2";
  bool json = false;
};

// "data=8" -> 8
int64_t data_ranks(const std::string& mesh) {
  const std::string axis = "data=";
  int64_t ranks = 0;
  const char* end = mesh.data() + mesh.size();
  const bool known = mesh.starts_with(axis);
  const auto parsed = known ? std::from_chars(mesh.data() + axis.size(), end, ranks) : std::from_chars_result{};
  check(known && parsed.ec == std::errc() && parsed.ptr == end && ranks >= 1 && ranks <= 1'000'000, ErrorCode::usage,
        [&] { return str("--mesh: expected data=N with N from 1 to 1000000, got '", mesh, "'"); });
  return ranks;
}

void check_path(const Plan& plan, const std::string& path) {
  std::vector<std::string_view> known;
  for (const PlannedVariable& variable : plan.variables) known.push_back(variable.path);
  check_known("variable", path, known, "lockstep explain lists all");
}

void run_explain(const ExplainOptions& options, Communicator& communicator) {
  check_plan_options(options.plan);
  const PlannedRun run = plan_run(options.plan, ModelSettings{}, data_ranks(options.mesh));
  if (!options.path.empty()) check_path(run.plan, options.path);
  if (communicator.rank() != 0) return;
  if (options.json)
    fmt::print("{}\n", plan_to_json(run.plan));
  else if (options.path.empty())
    fmt::print("{}", plan_table(run.plan));
  else
    fmt::print("{}", explain(run.plan, options.path));
}

}  // namespace

void add_explain_command(CLI::App& app, Command& chosen) {
  auto options = std::make_shared<ExplainOptions>();
  CLI::App& command = *app.add_subcommand(
      "explain", "Say what the planner decided for a variable, and by which rule; without a path, list all variables");
  command.add_option("path", options->path, "such as adam/iteration or dense_1/weight");
  command.add_option("--mesh", options->mesh, "ranks to plan for")->capture_default_str();
  command.add_flag("--json", options->json, "print the whole plan as JSON");
  add_plan_options(command, options->plan);
  command.callback([&chosen, options] { chosen = [options](Communicator& c) { run_explain(*options, c); }; });
}

}  // namespace lockstep
