// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "optimizers/schedules/schedule.h"
#include "runtime/files/atomic_file.h"
#include "runtime/files/standard_output.h"
#include "tools/commands/command_line.h"
#include "tools/commands/svg_plot.h"
#include "tools/training/output_files.h"

namespace lockstep {
namespace {

// The curve has a point per step, up to this many points: more than the picture has pixels.
constexpr int64_t kPoints = 1500;
constexpr int64_t kMostSteps = 1'000'000'000'000;

struct PlotOptions {
  std::string schedule;
  int64_t steps = 0;  // 0: until the schedule is through
  double learning_rate = 1e-3;
  std::string output;  // empty: standard output
};

// Goes until the schedule is through, or to 1000 where it never ends. A quarter more shows the last piece of schedules
// that are constant between boundaries.
int64_t steps_of(const Schedule& schedule) {
  const bool pieces = schedule.text().starts_with("piecewise_constant");
  const double steps = double(schedule.length()) * (pieces ? 1.25 : 1);
  return steps < 1 ? 1000 : int64_t(std::min(steps, double(kMostSteps)));
}

Plot schedule_plot(const Schedule& schedule, int64_t steps) {
  Plot plot{.title = schedule.text(),
            .x_label = "step",
            .y_label = "learning rate",
            .points = {},
            .mark = Plot::Mark{double(steps), str("end: step ", steps)}};
  const int64_t points = std::min(steps, kPoints);
  for (int64_t i = 0; i <= points; ++i) {
    // Both ends are shown, and whole steps between them; the product could overflow.
    const int64_t step = steps / points * i + steps % points * i / points;
    plot.points.push_back({double(step), schedule.at(step)});
  }
  return plot;
}

void run_plot_schedule(const PlotOptions& options, Communicator& communicator) {
  check(options.steps >= 0 && options.steps <= kMostSteps, ErrorCode::usage,
        [&] { return str("--steps: expected 1 to ", kMostSteps, " steps, got ", options.steps); });
  check_outputs(communicator, {{"--output", options.output}});
  const Schedule schedule = make_schedule(options.schedule, options.learning_rate);
  const std::string svg = svg_plot(schedule_plot(schedule, options.steps > 0 ? options.steps : steps_of(schedule)));
  if (communicator.rank() != 0) return;
  if (options.output.empty()) {
    print_output(svg);
    return;
  }
  AtomicFile file(options.output);
  file.write(svg.data(), int64_t(svg.size()));
  file.commit();
}

}  // namespace

void add_plot_command(CLI::App& app, Command& chosen) {
  auto options = std::make_shared<PlotOptions>();
  CLI::App& plot = *app.add_subcommand("plot", "Draw a curve as an SVG picture");
  plot.require_subcommand(1);
  CLI::App& command = *plot.add_subcommand("schedule", "The learning rate by step");
  command
      .add_option("text", options->schedule,
                  "the schedule, such as \"cosine(steps=2345, warmup_steps=100)\" (docs/optimizers.md)")
      ->required();
  command.add_option("--steps", options->steps, "draw so many steps (default: the schedule's, or 1000)");
  command.add_option("--learning-rate", options->learning_rate, "rate of the optimizer")->capture_default_str();
  command.add_option("--output", options->output, "write to this file (default: standard output)");
  command.callback(
      [&chosen, options] { chosen = [options](Communicator& c) { return run_plot_schedule(*options, c), 0; }; });
}

}  // namespace lockstep
