// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <fstream>
#include <sstream>

#include "collectives/host/thread_ranks.h"
#include "runtime/plan/plan_json.h"
#include "runtime/plan/plan_text.h"
#include "tools/commands/command_line.h"
#include "tools/planning/plan_report.h"
#include "tools/planning/plan_verify.h"
#include "tools/planning/planning.h"

namespace lockstep {
namespace {

struct PlanCommandOptions {
  ForecastOptions forecast;
  std::vector<std::string> compare;  // two plan files
  bool json = false;
  bool verify = false;
  int64_t steps = 5;
};

enum class Indivisible { error, replicate };
constexpr Indivisible kIndivisible[] = {Indivisible::error, Indivisible::replicate};
constexpr std::string_view to_string(Indivisible what) { return what == Indivisible::error ? "error" : "replicate"; }

Plan read_plan(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  check(bool(file) && bool(text), ErrorCode::file,
        [&] { return str("cannot read the plan ", path, "; expected a file written by lockstep plan --json"); });
  return plan_from_json(text.view(), path);
}

void print_difference(const std::vector<std::string>& files) {
  const std::string difference = plan_difference(read_plan(files[0]), read_plan(files[1]));
  fmt::print("{}", difference.empty() ? "the plans are equal\n" : difference);
}

void verify(const PlanCommandOptions& options, Communicator& launched) {
  check(options.steps >= 1 && options.steps <= 1000, ErrorCode::usage,
        [&] { return str("--steps: expected 1 to 1000 steps, got ", options.steps); });
  ForecastOptions forecast = options.forecast;
  if (forecast.plan.mesh.empty() && forecast.ranks == 0) forecast.ranks = launched.size();
  const Planning planned(forecast);
  const int64_t ranks = planned.input().settings.ranks();
  if (launched.size() > 1 || ranks == 1) return verify_plan(planned, launched, options.steps);
  check(ranks <= 256, ErrorCode::usage,
        [&] { return str("--verify runs ", ranks, " ranks as threads, expected at most 256; start them by mpirun"); });
  run_thread_ranks(int(ranks), [&](Communicator& communicator) { verify_plan(planned, communicator, options.steps); });
}

void run_plan(const PlanCommandOptions& options, Communicator& communicator) {
  if (options.verify) return verify(options, communicator);
  if (communicator.rank() != 0) return;
  if (!options.compare.empty()) return print_difference(options.compare);
  const Planning planning(options.forecast);
  if (planning.searches() && planning.search().fitting.empty()) {
    fmt::print("{}", planning.report());
    fail(ErrorCode::plan,
         planning.search().evaluated == 0
             ? str("no plan of ", planning.name(), " is possible on these ranks; the reasons are above")
             : str("no plan of ", planning.name(), " fits into --memory-limit ", options.forecast.memory_limit,
                   " a rank; the smallest change that would is above"));
  }
  const Plan plan = planning.plan();
  if (options.json)
    fmt::print("{}\n", plan_to_json(plan));
  else
    fmt::print("{}{}", planning.searches() ? planning.report() + "\n" : std::string(), plan_report(planning, plan));
}

}  // namespace

void add_forecast_options(CLI::App& command, ForecastOptions& options) {
  PlanSettings& plan = options.plan;
  add_plan_options(command, options.model, plan);
  command.get_option("--model")->description(model_choices() +
                                             " | a TOML file that lists variables (docs/model-files.md)");
  command.add_option_function<std::string>(
      "--mesh", [&plan](const std::string& text) { plan.mesh = parse_mesh(text); },
      "axes of ranks, such as data=8,model=4 (default: data=2)");
  command.add_option("--ranks", options.ranks, "ranks, instead of a mesh or of its sizes under --memory-limit");
  command.add_option("--ranks-per-node", plan.ranks_per_node, "consecutive ranks on a node (0: all on one)")
      ->capture_default_str();
  command.add_option("--rules", options.rules, "TOML file of layout rules: paths or regular expressions to layouts");
  command
      .add_option_function<std::string>(
          "--indivisible",
          [&plan](const std::string& name) {
            plan.replicate_indivisible = parse_choice("--indivisible", name, kIndivisible) == Indivisible::replicate;
          },
          "a rule that does not divide a dimension: error | replicate")
      ->default_str("error");
  command.add_option("--zero", plan.zero, "ZeRO stage 0 to 3: split slots, gradients, parameters over the batch axis");
  command.add_option("--accumulation", plan.accumulation, "micro-batches of a step");
  command.add_option("--batch", plan.workload.batch, "samples of a step, all ranks together (default: the model's)");
  command.add_option("--device", options.device,
                     "cpu: ranks of a node share one copy | cuda: each has its own (default: cuda for model files, "
                     "rules and ZeRO)");
}

void add_plan_command(CLI::App& app, Command& chosen) {
  auto options = std::make_shared<PlanCommandOptions>();
  CLI::App& command = *app.add_subcommand(
      "plan", "Forecast memory, collectives and time of a training on ranks that need not exist, and say why");
  add_forecast_options(command, options->forecast);
  command.add_option("--profile", options->forecast.profile, "machine whose times are used: h200 | a100 | cpu");
  command.add_option("--memory-limit", options->forecast.memory_limit,
                     "such as 80GiB a rank: choose mesh, ZeRO stage, micro-batches and buckets for the fastest step; "
                     "what is given stays");
  command.add_flag("--json", options->json, "print the plan as JSON, for --diff and other programs");
  command.add_option("--diff", options->compare, "two plan files: print what differs")->expected(2);
  command.add_flag("--verify", options->verify, "run a few steps on real ranks and print forecast beside measurement");
  command.add_option("--steps", options->steps, "of --verify")->capture_default_str();
  command.callback([&command, &chosen, options] {
    options->forecast.fixed = {.zero = command.count("--zero") > 0,
                               .accumulation = command.count("--accumulation") > 0,
                               .bucket_bytes = command.count("--bucket-mib") > 0};
    chosen = [options](Communicator& c) { return run_plan(*options, c), 0; };
  });
}

}  // namespace lockstep
