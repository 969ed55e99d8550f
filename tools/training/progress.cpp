// SPDX-License-Identifier: Apache-2.0
#include "tools/training/progress.h"

#include <fmt/format.h>

#include <utility>

#include "tools/training/clock_text.h"

namespace lockstep {

Progress::Progress(std::FILE* out, bool terminal, int64_t steps, int64_t steps_per_epoch, ProgressWords words,
                   int64_t first_step)
    : out_(out),
      terminal_(terminal),
      line_(out),
      first_step_(first_step),
      steps_(steps),
      steps_per_epoch_(steps_per_epoch),
      words_(std::move(words)) {}

double Progress::units_per_second() const {
  return double(samples_ * words_.units_per_sample) / std::chrono::duration<double>(Clock::now() - start_).count();
}

void Progress::pause() {
  paused_ = Clock::now();
  if (out_) line_.keep();
}

void Progress::go_on() { start_ += Clock::now() - paused_; }

void Progress::step(int64_t step, int64_t samples, const std::function<const StepReport&()>& report) {
  samples_ += samples;
  shown_samples_ += samples;
  const bool end_of_epoch = (step + 1) % steps_per_epoch_ == 0 || step + 1 == steps_;
  const double since_print = std::chrono::duration<double>(Clock::now() - last_print_).count();
  if (!end_of_epoch && (!out_ || since_print < (terminal_ ? 0.2 : 10.0))) return;
  const StepReport& now = report();
  if (out_) print(step, end_of_epoch, now);
  if (!end_of_epoch && !words_.recent_loss) return;
  loss_before_ = now.loss_sum;
  if (!words_.share_sum.empty()) share_before_ = now.sum_of_all_steps(words_.share_sum);
  shown_samples_ = 0;
}

void Progress::print(int64_t step, bool end_of_epoch, const StepReport& report) {
  last_print_ = Clock::now();
  const double elapsed = std::chrono::duration<double>(last_print_ - start_).count();
  const double left = elapsed / double(step + 1 - first_step_) * double(steps_ - step - 1);
  const int64_t epochs = (steps_ + steps_per_epoch_ - 1) / steps_per_epoch_;
  const double samples = double(shown_samples_);
  std::vector<std::string> fields{fmt::format("epoch {}/{}", step / steps_per_epoch_ + 1, epochs),
                                  fmt::format("step {}/{}", step + 1, steps_),
                                  fmt::format("loss {:.4f}", (report.loss_sum - loss_before_) / samples)};
  if (!words_.share_sum.empty())
    fields.push_back(fmt::format("{} {:.4f}", words_.share_name,
                                 (report.sum_of_all_steps(words_.share_sum) - share_before_) / samples));
  fields.push_back(fmt::format("{:.0f} {}/s", units_per_second(), words_.unit));
  fields.push_back(fmt::format("{} left", clock_text(left)));
  if (terminal_) {
    line_.show(fields);
    if (end_of_epoch) line_.keep();
  } else {
    fmt::print(out_, "{}\n", fmt::join(fields, "  "));
    std::fflush(out_);
  }
}

}  // namespace lockstep
