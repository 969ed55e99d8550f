// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "kernels/device/known_name.h"
#include "runtime/files/standard_output.h"
#include "runtime/plan/plan_json.h"
#include "runtime/plan/plan_text.h"
#include "tools/commands/command_line.h"
#include "tools/planning/planning.h"

namespace lockstep {
namespace {

struct ExplainOptions {
  ForecastOptions forecast;
  std::string path;     // empty: all variables
  std::string why_not;  // an answer or a rule
  bool json = false;
};

void check_path(const Plan& plan, const std::string& path) {
  std::vector<std::string_view> known;
  for (const PlannedVariable& variable : plan.variables) known.push_back(variable.path);
  check_known("variable", path, known, "lockstep explain lists all");
}

// Says which optimizer updates a trained variable, and why; empty for others.
std::string explain_update(const Plan& plan, const OptimizerSet& optimizers, const std::string& path) {
  if (!plan.at(path).in_gradient_sync) return "";
  const OptimizerGroup& group = optimizers.group(optimizers.group_of(path));
  std::string how(group.optimizer->name());
  if (group.own_rate)
    how += fmt::format(" at {}", *group.own_rate);
  else if (group.rate_factor != 1)
    how += fmt::format(" at rate x {}", group.rate_factor);
  return fmt::format("  {:<15}{:<22}{}\n", "update", how,
                     group.text.empty() ? "no group rule matches" : "group rule " + group.text);
}

void run_explain(const ExplainOptions& options, Communicator& communicator) {
  check(options.why_not.empty() || !options.path.empty(), ErrorCode::usage,
        "--why-not asks about one variable: lockstep explain adam/iteration --why-not sharded");
  const Planning planning(options.forecast);
  const Plan plan = planning.plan();
  if (!options.path.empty()) check_path(plan, options.path);
  const std::string text = options.json           ? plan_to_json(plan) + "\n"
                           : options.path.empty() ? plan_table(plan)
                           : !options.why_not.empty()
                               ? explain_why_not(plan, options.path, options.why_not)
                               : explain(plan, options.path) + explain_update(plan, planning.optimizer(), options.path);
  if (communicator.rank() == 0) print_output(text);
}

}  // namespace

void add_explain_command(CLI::App& app, Command& chosen) {
  auto options = std::make_shared<ExplainOptions>();
  CLI::App& command = *app.add_subcommand(
      "explain", "Say what the planner decided for a variable, and by which rule; without a path, list all variables");
  command.add_option("path", options->path,
                     "the variable, such as adam/iteration or dense_1/weight (default: list all)");
  command.add_option("--why-not", options->why_not, "say why it did not get this answer: sharded, sum, on-tape, ...");
  command.add_flag("--json", options->json, "print the whole plan as JSON");
  add_forecast_options(command, options->forecast);
  command.callback([&command, &chosen, options] {
    finish_forecast_options(command, options->forecast);
    chosen = [options](Communicator& c) { return run_explain(*options, c), 0; };
  });
}

}  // namespace lockstep
