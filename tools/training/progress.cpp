// SPDX-License-Identifier: Apache-2.0
#include "tools/training/progress.h"

#include <fmt/format.h>

#include "tools/training/clock_text.h"

namespace lockstep {

Progress::Progress(std::FILE* out, bool terminal, int64_t steps, int64_t steps_per_epoch)
    : out_(out), terminal_(terminal), steps_(steps), steps_per_epoch_(steps_per_epoch) {}

double Progress::samples_per_second() const {
  return double(samples_) / std::chrono::duration<double>(Clock::now() - start_).count();
}

void Progress::step(int64_t step, int64_t samples, const std::function<const StepReport&()>& report) {
  samples_ += samples;
  epoch_samples_ += samples;
  const bool end_of_epoch = (step + 1) % steps_per_epoch_ == 0 || step + 1 == steps_;
  const double since_print = std::chrono::duration<double>(Clock::now() - last_print_).count();
  if (!end_of_epoch && (!out_ || since_print < (terminal_ ? 0.2 : 10.0))) return;
  const StepReport& now = report();
  if (out_) print(step, end_of_epoch, now);
  if (!end_of_epoch) return;
  loss_before_ = now.loss_sum;
  correct_before_ = now.sum_of_all_steps("correct");
  epoch_samples_ = 0;
}

void Progress::print(int64_t step, bool end_of_epoch, const StepReport& report) {
  last_print_ = Clock::now();
  const double elapsed = std::chrono::duration<double>(last_print_ - start_).count();
  const double left = elapsed / double(step + 1) * double(steps_ - step - 1);
  const int64_t epochs = (steps_ + steps_per_epoch_ - 1) / steps_per_epoch_;
  const std::string line = fmt::format(
      "epoch {}/{}  step {}/{}  loss {:.4f}  accuracy {:.4f}  {:.0f} images/s  {} left", step / steps_per_epoch_ + 1,
      epochs, step + 1, steps_, (report.loss_sum - loss_before_) / double(epoch_samples_),
      (report.sum_of_all_steps("correct") - correct_before_) / double(epoch_samples_), samples_per_second(),
      clock_text(left));
  if (terminal_)
    fmt::print(out_, "\r\x1b[K{}{}", line, end_of_epoch ? "\n" : "");
  else
    fmt::print(out_, "{}\n", line);
  std::fflush(out_);
}

}  // namespace lockstep
