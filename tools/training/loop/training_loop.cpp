// SPDX-License-Identifier: Apache-2.0
#include "tools/training/loop/training_loop.h"

#include <fmt/format.h>

#include <chrono>
#include <cstdio>

#include "collectives/bootstrap.h"
#include "kernels/device/printable.h"
#include "runtime/files/standard_output.h"

namespace lockstep {
namespace {

// Launchers give ranks a pseudo terminal whatever they print to, so `auto` trusts a terminal only without a launcher.
bool draws_on_terminal(const std::string& progress) {
  if (progress != "auto") return progress == "terminal";
  return read_launcher().launcher.empty() && is_terminal_for_lines(stdout);
}

void warn_unused(const TrainingRun& run, const std::vector<int32_t>& unused) {
  for (const int32_t v : unused)
    print_remark(fmt::format("lockstep: warning: variable {} got no gradient: no op led from it to the loss\n",
                             run.plan().variables[size_t(v)].path));
}

std::string mebibytes(int64_t bytes) { return fmt::format("{:.1f} MiB", double(bytes) / double(1 << 20)); }

// What the run of rank 0 has taken of its GPU, beside what its plan has told. Libraries take more.
std::string memory_text(TrainingRun& run) {
  const Pool& pool = run.pool();
  const PlannedMemory& planned = run.plan().memory();
  int64_t stays = 0, peak = 0;
  for (const Purpose purpose : {Purpose::parameters, Purpose::slots, Purpose::gradients, Purpose::scalars})
    stays += pool.live(purpose).now;
  for (size_t purpose = 0; purpose < kPurposes; ++purpose) peak += pool.live(Purpose(purpose)).peak;
  return fmt::format(
      "memory of the GPU of rank 0: {} reserved, {} of it for kernels; {} live, {} at the peak; {} stay, {} planned\n",
      mebibytes(pool.held() + run.stream().scratch_bytes()), mebibytes(run.stream().scratch_bytes()),
      mebibytes(pool.live_total()), mebibytes(peak), mebibytes(stays),
      mebibytes(planned.parameters + planned.slots + planned.gradients + planned.scalars));
}

}  // namespace

void Reports::warn(int64_t news) const {
  if (news == 1 && report_.skipped)
    print_remark(fmt::format(
        "lockstep: warning: step {} was skipped by all ranks: the gradient of variable {} is not finite{}\n", number_,
        report_.not_finite, report_.origin.empty() ? "" : "; " + report_.origin));
  else
    print_remark(fmt::format(
        "lockstep: warning: {} steps up to step {} were skipped by all ranks; in the last of them the gradient "
        "of variable {} was not finite\n",
        news, number_, report_.last_not_finite));
}

TrainingLoop::TrainingLoop(const Parts& parts, bool to_judge)
    : parts_(parts),
      first_(parts.ranks.rank() == 0),
      words_(parts.task.words()),
      batches_(parts.task.batches({.batch = parts.options.batch,
                                   .first_step = parts.course.first_step,
                                   .steps = parts.course.steps,
                                   .batches_ahead = parts.course.batches_ahead,
                                   .seed = uint64_t(parts.options.seed),
                                   .virtual_ranks = parts.run.parts(),
                                   .first_part = parts.run.step().first_part(),
                                   .end_part = parts.run.step().last_part()})),
      reports_(parts.run.step(), first_,
               parts.device.device.kind == DeviceKind::cpu || !parts.options.ledger.empty() ||
                   !parts.options.metrics.empty(),
               parts.course.first_step),
      progress_(first_ ? stdout : nullptr, draws_on_terminal(parts.options.progress), parts.course.steps,
                parts.course.per_epoch, words_, parts.course.first_step),
      check_in_(parts.ranks, parts.run.step().last_part() - parts.run.step().first_part()),
      profiled_(parse_profile_steps(parts.options.profile_steps)),
      step_(parts.course.first_step),
      scored_(!to_judge) {
  if (parts.task.can_score()) judging_.emplace(parts.ranks, 0);
}

TrainResult TrainingLoop::run() {
  parts_.supervised.begin_steps(step_);
  if (!scored_ && is_to_be_judged()) judge();
  while (step_ < parts_.course.steps && signal() == 0) {
    take_step();
    sample();
    if (is_to_be_judged()) judge();
    if (parts_.snapshots && parts_.snapshots->is_due(step_)) {
      (void)parts_.run.step().report();  // as for a checkpoint
      take_snapshot();
    }
    if (parts_.checkpoints && parts_.checkpoints->is_due(step_) && step_ < parts_.course.steps && signal() == 0)
      begin_checkpoint();
  }
  return step_ < parts_.course.steps ? stop() : finish();
}

void TrainingLoop::take_step() {
  parts_.supervised.begin_step(step_);
  parts_.faults.before_step(step_,
                            {parts_.run.batch_axis(), parts_.run.variables(), parts_.run.step(), parts_.run.stream()});
  profiled_.begin(step_ + 1);
  const auto start = std::chrono::steady_clock::now();
  const StepBatch batch = batches_->next();
  TrainingRun& run = parts_.run;
  run.step().queue({batch.step, batch.global_count, batch.parts});
  if (parts_.record) parts_.record->write(batch.step, batch.data_hash, run.step().part_facts());
  const StepReport* report = reports_.every_step() ? &reports_.get() : nullptr;
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  if (parts_.outputs && parts_.outputs->want_steps())
    parts_.outputs->write(reports_.get(), batch, words_, run.variables(), seconds, check_in_.times());
  if (first_ && step_ == parts_.course.first_step) warn_unused(run, run.step().unused_variables());
  progress_.step(step_, batch.global_count, [&]() -> const StepReport& { return reports_.get(); });
  if (check_in_.step(seconds, report ? report->compute_seconds : 0, report ? report->communication_seconds : 0,
                     parts_.asked.signal(), parts_.checkpoints ? parts_.checkpoints->news() : 0)) {
    const std::string news = check_in_.straggler_news();
    if (first_ && !news.empty()) fmt::print(stderr, "lockstep: warning: {}\n", news);
    if (parts_.checkpoints) parts_.checkpoints->hear(check_in_.news());
  }
  if (profiled_.ends_after(step_ + 1)) {
    (void)reports_.get();  // waits for the GPU
    profiled_.end();
  }
  reports_.step_is_over();
  ++step_;
  parts_.supervised.end_step(step_);
  scored_ = true;
}

// Comes before the step's checkpoint, so that a run that goes on from there does not repeat it.
void TrainingLoop::sample() {
  const SampleRequest& wanted = parts_.options.sample;
  if (wanted.every == 0 || step_ % wanted.every != 0) return;
  progress_.pause();
  if (first_) {
    TrainingRun& run = parts_.run;
    const std::string text =
        parts_.task.sample(wanted, uint64_t(parts_.options.seed), run.model(), run.variables(), parts_.device.threads);
    print_output(
        fmt::format("step {}/{}  sample {}\n", step_, parts_.course.steps, printable(json_text(text), 100'000)));
    flush_output();
    parts_.outputs->write_sample(text, step_);
  }
  // The others' waiting is none of a step's.
  parts_.ranks.barrier();
  progress_.go_on();
}

bool TrainingLoop::is_to_be_judged() const {
  const int64_t every = parts_.options.eval_every;
  return every > 0 && step_ > 0 && step_ % every == 0 && step_ < parts_.course.steps && parts_.task.can_score();
}

// None where somebody asks the run to stop meanwhile.
std::optional<Score> TrainingLoop::score() {
  using Clock = std::chrono::steady_clock;
  TrainingRun& run = parts_.run;
  judging_->speak_next();
  const auto stop = [&, last = Clock::now()]() mutable {
    const double seconds = std::chrono::duration<double>(Clock::now() - last).count();
    last = Clock::now();
    judging_->step(seconds, 0, 0, parts_.asked.signal());
    return judging_->signal() != 0;
  };
  return parts_.task.score({parts_.ranks, run.stream(), run.pool(), run.model(), run.variables().values(), stop});
}

void TrainingLoop::judge() {
  progress_.pause();
  const std::optional<Score> score = this->score();
  scored_ = score.has_value();
  if (first_ && score) print_output(fmt::format("step {}/{}  {}\n", step_, parts_.course.steps, score->text));
  if (parts_.outputs && score) parts_.outputs->write_score(*score, step_);
  progress_.go_on();
}

RunState TrainingLoop::state() const {
  RunState state{.step = step_,
                 .configuration = parts_.configuration,
                 .position = parts_.course.position_at(step_),
                 .scored = scored_,
                 .ledger = std::nullopt,
                 .metrics = std::nullopt};
  if (parts_.outputs) state.ledger = parts_.outputs->ledger_position();
  if (parts_.outputs) state.metrics = parts_.outputs->metrics_position();
  return state;
}

std::function<void()> TrainingLoop::sync_outputs() const {
  if (parts_.outputs == nullptr) return {};
  return [outputs = parts_.outputs] { outputs->sync(); };
}

void TrainingLoop::begin_checkpoint() {
  (void)parts_.run.step().report();  // a loss that is not finite ends the run, and leaves no checkpoint
  parts_.checkpoints->begin(state(), sync_outputs());
}

// A launcher that passes TERM, INT or HUP on ends its ranks about a second later.
std::string TrainingLoop::save_what_is_there(int signal) {
  constexpr double kSecondsLeft = 1;
  RunCheckpoints& checkpoints = *parts_.checkpoints;
  if (exit_code_of_signal(signal) == 0 || read_launcher().launcher.empty() ||
      checkpoints.expected_seconds() < kSecondsLeft) {
    checkpoints.save(state(), sync_outputs());
    return fmt::format("the checkpoint is {}", checkpoints.path_of(step_));
  }
  if (checkpoints.last_step() < 0) return "there was no time for a checkpoint";
  return fmt::format("there was no time for a checkpoint, the last one is {}",
                     checkpoints.path_of(checkpoints.last_step()));
}

TrainResult TrainingLoop::stop() {
  const TrainOptions& options = parts_.options;
  TrainResult result{.text = "", .steps = step_, .signal = signal()};
  std::string kept;
  if (parts_.checkpoints) kept = save_what_is_there(result.signal);
  parts_.run.step().take_averages();
  if (!options.save.empty()) kept += (kept.empty() ? "" : ", ") + fmt::format("the weights are in {}", options.save);
  if (first_ && !options.save.empty()) parts_.task.save(options.save, parts_.run.model(), parts_.run.variables());
  if (first_)
    fmt::print(stderr, "lockstep: stopped by {} after step {} of {}; {}\n", name_of_signal(result.signal), step_,
               parts_.course.steps, kept.empty() ? "without --save nothing is kept" : kept);
  return result;
}

TrainResult TrainingLoop::finish() {
  const TrainOptions& options = parts_.options;
  TrainingRun& run = parts_.run;
  const double speed = progress_.units_per_second();
  scored_ = true;
  if (parts_.checkpoints && parts_.checkpoints->last_step() != step_) begin_checkpoint();
  run.step().take_averages();
  TrainResult result{.text = "", .steps = step_};
  if (parts_.task.can_score()) {
    const std::optional<Score> score = this->score();
    if (parts_.checkpoints) parts_.checkpoints->finish();
    if (!score) return stop();
    if (parts_.outputs) parts_.outputs->write_score(*score, std::nullopt);
    result.text = score->text + " ";
  } else {
    if (parts_.checkpoints) parts_.checkpoints->finish();
    result.text = fmt::format("loss={:.4f} ", run.step().report().loss);
  }
  result.text += fmt::format("{}_per_second={:.0f}", words_.unit, speed);
  if (first_ && !options.save.empty()) parts_.task.save(options.save, run.model(), run.variables());
  if (first_ && parts_.device.device.kind == DeviceKind::cuda) print_output(memory_text(run));
  return result;
}

}  // namespace lockstep
