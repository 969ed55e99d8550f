// SPDX-License-Identifier: Apache-2.0
#include "collectives/host/thread_ranks.h"
#include "runtime/files/file_descriptor.h"
#include "runtime/files/standard_output.h"
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
  bool all = false;
  bool verify = false;
  int64_t steps = 5;
};

enum class Indivisible { error, replicate };
constexpr Indivisible kIndivisible[] = {Indivisible::error, Indivisible::replicate};
constexpr std::string_view to_string(Indivisible what) { return what == Indivisible::error ? "error" : "replicate"; }

Plan read_plan(const std::string& path) { return plan_from_json(read_text(path, kLongestPlanText, "a plan"), path); }

void print_difference(const std::vector<std::string>& files) {
  const std::string difference = plan_difference(read_plan(files[0]), read_plan(files[1]));
  print_output(difference.empty() ? "the plans are equal\n" : difference);
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
    print_output(planning.report());
    fail(ErrorCode::plan,
         planning.search().evaluated == 0
             ? str("no plan of ", planning.name(), " is possible on these ranks; the reasons are above")
             : str("no plan of ", planning.name(), " fits into --memory-limit ", options.forecast.memory_limit,
                   " a rank; the smallest change that would is above"));
  }
  const Plan plan = planning.plan();
  if (options.json)
    print_output(plan_to_json(plan) + "\n");
  else
    print_output((planning.searches() ? planning.report() + "\n" : "") +
                 plan_report(planning, plan, options.all ? Rows::all : Rows::folded));
}

}  // namespace

void add_forecast_options(CLI::App& command, ForecastOptions& options) {
  PlanSettings& plan = options.plan;
  add_plan_options(command, options.model, plan);
  command.get_option("--model")->description("model: " + model_choices() +
                                             " | a TOML file that lists variables (docs/model-files.md)");
  command.add_option_function<std::string>(
      "--mesh", [&plan](const std::string& text) { plan.mesh = parse_mesh(text); },
      "arrange the ranks in axes, such as data=8,model=4 (default: data=2)");
  command.add_option("--ranks", options.ranks,
                     "plan for this many ranks, instead of a mesh or of its sizes under --memory-limit");
  command
      .add_option("--ranks-per-node", plan.ranks_per_node, "put this many consecutive ranks on a node (0: all on one)")
      ->capture_default_str();
  command.add_option("--rules", options.rules,
                     "lay variables out by the rules of this TOML file: paths or regular expressions to layouts");
  command
      .add_option_function<std::string>(
          "--indivisible",
          [&plan](const std::string& name) {
            plan.replicate_indivisible = parse_choice("--indivisible", name, kIndivisible) == Indivisible::replicate;
          },
          "what to do with a rule that does not divide a dimension: error | replicate")
      ->default_str("error");
  command.add_option(
      "--zero", plan.zero,
      "ZeRO stage: split over the batch axis slots (1), also gradients (2), also parameters (3), or nothing (0)");
  command.add_option("--accumulation,--train.accumulation", plan.accumulation,
                     "compute a step in this many micro-batches");
  command.add_option("--classes", options.images.classes, "classes that a shipped model tells apart")
      ->capture_default_str();
  command
      .add_option_function<std::string>(
          "--image-size",
          [&options](const std::string& text) { parse_image_size("--image-size", text, options.images); },
          "height and width of the images of a shipped model, such as 32x32")
      ->default_str("28x28");
  CLI::Option* batch = command.add_option("--batch,--train.batch", plan.workload.batch,
                                          "samples of a step, all ranks together (default: the model's)");
  add_batch_tokens_option(command, options.batch_tokens)->excludes(batch);
  command.add_option(
      "--device", options.device,
      "plan for: cpu, ranks of a node share one copy | cuda, each has its own (default: cuda for model files, "
      "rules and ZeRO)");
}

void finish_forecast_options(CLI::App& command, ForecastOptions& options) {
  read_config(command);
  finish_model_options(command, options.model);
  const bool language = shipped_transformer(options.model.name).has_value();
  int64_t& batch = options.plan.workload.batch;
  if (batch == 0 && (language || options.batch_tokens != 0))
    batch = batch_of(options.model, 0, options.batch_tokens, 0);
}

void add_plan_command(CLI::App& app, Command& chosen) {
  auto options = std::make_shared<PlanCommandOptions>();
  CLI::App& command = *app.add_subcommand(
      "plan", "Forecast memory, collectives and time of a training on ranks that need not exist, and say why");
  add_forecast_options(command, options->forecast);
  command.add_option("--profile", options->forecast.profile,
                     "forecast times of this machine: h200 | a100 | cpu (default: by device)");
  command.add_option(
      "--memory-limit", options->forecast.memory_limit,
      "choose mesh, ZeRO stage, micro-batches and buckets for the fastest step that fits into this much a "
      "rank, such as 80GiB; what is given stays");
  command.add_flag("--all", options->all, "list every variable, bucket and collective, with exact bytes");
  command.add_flag("--json", options->json, "print the plan as JSON, for --diff and other programs");
  command.add_option("--diff", options->compare, "print what differs between two files that --json wrote")->expected(2);
  command.add_flag("--verify", options->verify, "run a few steps on real ranks and print forecast beside measurement");
  command.add_option("--steps", options->steps, "run this many steps with --verify")->capture_default_str();
  command.callback([&command, &chosen, options] {
    finish_forecast_options(command, options->forecast);
    options->forecast.fixed = {.zero = command.count("--zero") > 0,
                               .accumulation = command.count("--accumulation") > 0,
                               .bucket_bytes = command.count("--bucket-mib") > 0};
    chosen = [options](Communicator& c) { return run_plan(*options, c), 0; };
  });
}

}  // namespace lockstep
