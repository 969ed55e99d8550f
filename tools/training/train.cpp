// SPDX-License-Identifier: Apache-2.0
#include "tools/training/train.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>

#include "collectives/bootstrap.h"
#include "collectives/handshake.h"
#include "kernels/device/printable.h"
#include "kernels/device/profiling.h"
#include "kernels/numerics.h"
#include "runtime/data/sample_order.h"
#include "runtime/files/atomic_file.h"
#include "runtime/files/line_file.h"
#include "runtime/files/standard_output.h"
#include "runtime/state/ledger.h"
#include "tools/training/build_identity.h"
#include "tools/training/check_in.h"
#include "tools/training/output_files.h"
#include "tools/training/progress.h"
#include "tools/training/tasks/chosen_model.h"
#include "tools/training/tasks/training_task.h"
#include "tools/training/training_run.h"

namespace lockstep {
namespace {

std::string hex(uint64_t value) { return fmt::format("{:016x}", value); }

// Texts of models may hold bytes that are no UTF-8.
std::string json_line(const nlohmann::json& value) {
  return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

bool is_file_to_be(const std::string& path) {
  std::error_code ignored;
  const auto type = std::filesystem::status(path, ignored).type();
  return type != std::filesystem::file_type::fifo && type != std::filesystem::file_type::character;
}

bool names_folder(const std::string& path) { return path.ends_with('/'); }

// A folder is made where it is missing.
std::string what_is_written(const std::string& path) {
  if (!names_folder(path)) return path;
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) return path + "config.json";
  return path.substr(0, path.find_last_not_of('/') + 1);
}

// No output may be one of the other files of the run.
void check_files(Communicator& communicator, const TrainOptions& options, const TrainingTask& task) {
  std::vector<NamedFile> inputs = task.inputs();
  inputs.push_back({"the running program", "/proc/self/exe"});
  std::vector<NamedFile> outputs = {{"--ledger", options.ledger}, {"--metrics", options.metrics}};
  if (names_folder(options.save)) {
    check(language_settings(options.model).has_value(), ErrorCode::usage, [&] {
      return str("--save '", options.save, "' names a folder, which is for language models; expected a file for model ",
                 options.model.name);
    });
    for (const char* name : {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json"})
      outputs.push_back({"--save", options.save + name});
  } else {
    outputs.push_back({"--save", options.save});
  }
  check_outputs(communicator, outputs, inputs);
}

// The files of rank 0, opened when nothing can be refused any more.
struct Outputs {
  std::optional<LineFile> ledger, metrics;

  Outputs(const TrainOptions& options, const std::string& header) {
    if (!options.save.empty()) check_can_write(what_is_written(options.save));
    // A pipe or device can only be opened; a file is tried before another one is emptied.
    if (!options.metrics.empty() && is_file_to_be(options.metrics)) check_can_write(options.metrics);
    // Other ranks must not lose patience before this one does.
    const std::chrono::milliseconds patience(int64_t(std::min(10.0, options.timeout_seconds / 2) * 1e3));
    if (!options.ledger.empty()) ledger.emplace(options.ledger, patience).write_line(header);
    if (!options.metrics.empty()) metrics.emplace(options.metrics, patience);
  }

  bool want_steps() const { return ledger || metrics; }

  // `times`: of each rank, as it last told the others.
  void write(const StepReport& report, const StepBatch& batch, const ProgressWords& words,
             const VariableStore& variables, double seconds, std::span<const RankTimes> times) {
    if (ledger) ledger->write_line(ledger_line(batch.step, report.loss, variables, batch.data_hash));
    if (!metrics) return;
    const double samples = double(batch.global_count);
    nlohmann::json line{{"step", batch.step},
                        {"epoch", batch.epoch},
                        {"loss", report.loss},
                        {"samples_per_second", samples / seconds},
                        {"step_ms", seconds * 1e3},
                        {"compute_ms", report.compute_seconds * 1e3},
                        {"communication_ms", report.communication_seconds * 1e3},
                        {"exposed_communication_ms", report.communication_seconds * 1e3},
                        {"learning_rate", variables.scalars().learning_rate()}};
    if (!words.share_sum.empty()) line[words.share_name] = report.sum(words.share_sum) / samples;
    if (words.units_per_sample != 1)
      line[words.unit + "_per_second"] = samples * double(words.units_per_sample) / seconds;
    if (report.skipped) line["skipped"] = true;
    if (times.size() > 1) {
      const auto slowest = std::ranges::max_element(times, {}, &RankTimes::compute);
      line["slowest_rank"] = slowest - times.begin();
      line["longest_compute_ms"] = slowest->compute * 1e3;
      line["shortest_compute_ms"] = std::ranges::min(times, {}, &RankTimes::compute).compute * 1e3;
      line["longest_wait_ms"] = std::ranges::max(times, {}, &RankTimes::wait).wait * 1e3;
      line["shortest_wait_ms"] = std::ranges::min(times, {}, &RankTimes::wait).wait * 1e3;
    }
    metrics->write_line(line.dump());
  }

  void write_sample(const std::string& text, int64_t step) {
    if (metrics) metrics->write_line(json_line({{"sample", text}, {"step", step}}));
  }

  // `step`: after so many steps; none at the end.
  void write_score(const Score& score, std::optional<int64_t> step) {
    if (!metrics) return;
    nlohmann::json line = score.numbers;
    if (step) line["step"] = *step;
    metrics->write_line(line.dump());
  }
};

void agree(Communicator& communicator, const TrainOptions& options, const PlannedRun& planned,
           const std::string& description, const TrainingTask& task, Device device) {
  check_agreement(communicator, {{"binary", build_identity()},
                                 {"numerics", numerics(device)},
                                 {"options", str(description, " epochs=", options.epochs, " steps=", options.steps)},
                                 {"data", hex(task.content_hash())},
                                 {"plan", hex(planned.plan.hash())}});
}

// Launchers give ranks a pseudo terminal whatever they print to, so `auto` trusts a terminal only without a launcher.
bool draws_on_terminal(const std::string& progress) {
  if (progress != "auto") return progress == "terminal";
  return read_launcher().launcher.empty() && is_terminal_for_lines(stdout);
}

// The reports of steps, asked for at most once per step: on a GPU asking means waiting. `first` tells of skipped steps.
class Reports {
 public:
  Reports(TrainStep& step, bool first, bool every_step) : step_(step), first_(first), every_step_(every_step) {}
  bool every_step() const { return every_step_; }
  const StepReport& get() {
    if (known_) return report_;
    const int64_t skipped = report_.skipped_sum;
    report_ = step_.report();
    known_ = true;
    if (first_ && report_.skipped_sum > skipped) warn(report_.skipped_sum - skipped);
    return report_;
  }
  void step_is_over() {
    known_ = false;
    ++number_;
  }

 private:
  void warn(int64_t news) const {
    if (news == 1 && report_.skipped)
      print_remark(fmt::format(
          "lockstep: warning: step {} was skipped by all ranks: the gradient of variable {} is not finite\n", number_,
          report_.not_finite));
    else
      print_remark(fmt::format(
          "lockstep: warning: {} steps up to step {} were skipped by all ranks; in the last of them the gradient "
          "of variable {} was not finite\n",
          news, number_, report_.last_not_finite));
  }

  TrainStep& step_;
  bool first_, every_step_;
  StepReport report_;
  bool known_ = false;
  int64_t number_ = 0;
};

void warn_unused(const TrainingRun& run, const std::vector<int32_t>& unused) {
  for (const int32_t v : unused)
    print_remark(fmt::format("lockstep: warning: variable {} got no gradient: no op led from it to the loss\n",
                             run.plan().variables[size_t(v)].path));
}

// Has a profiler that waits for it record some of the steps, at most to the end of the run.
class ProfiledSteps {
 public:
  explicit ProfiledSteps(const StepInterval& steps) : steps_(steps) {}
  ProfiledSteps(const ProfiledSteps&) = delete;
  ProfiledSteps& operator=(const ProfiledSteps&) = delete;
  ~ProfiledSteps() { end(); }

  void begin(int64_t step) {
    if (step != steps_.first) return;
    start_profiler();
    records_ = true;
  }
  bool ends_after(int64_t step) const { return records_ && step == steps_.last; }
  void end() {
    if (std::exchange(records_, false)) stop_profiler();
  }

 private:
  StepInterval steps_;
  bool records_ = false;
};

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

std::string describe(const RunDevice& device, const TrainingRun& run) {
  if (device.device.kind == DeviceKind::cpu) return fmt::format("{} threads", device.threads);
  return fmt::format("{} ({})", find_cuda_devices().devices[size_t(device.device.index)].name, run.transport());
}

}  // namespace

TrainResult train(const TrainOptions& options, Communicator& communicator, const StopRequest& asked) {
  check_train_options(options, communicator.size());
  // In one process a launch of one GPU's graph may wait for memory or code of another one, which waits for the launch.
  check(!options.graph || options.ranks <= 1 || options.transport == DeviceTransport::staged, ErrorCode::usage,
        "--graph records collectives of NCCL, which GPUs of one process (--ranks) can block each other with; start a "
        "process "
        "for each rank with mpirun, or leave --graph out");
  const bool first = communicator.rank() == 0;
  const std::unique_ptr<TrainingTask> task = make_task(communicator, options.model, options.data);
  task->check_sample(options.sample);
  check_files(communicator, options, *task);
  const RunDevice device = choose_run_device(communicator, options.device, options.transport, options.threads);
  PlannedRun planned = plan_run(options.model, task->images(), options.plan, communicator.size(),
                                ranks_per_node(communicator), device.device.kind);
  const int64_t per_epoch = steps_per_epoch(task->samples(), options.batch);
  const int64_t steps = options.steps > 0 ? options.steps : options.epochs * per_epoch;
  std::optional<Schedule> schedule;
  if (const std::string text = options.schedule.value_or(task->default_schedule(steps));
      options.schedule || !text.empty())
    schedule = make_schedule(text, planned.optimizer.learning_rate());
  const std::string description = run_description(options, planned.optimizer, schedule, planned.plan.settings);
  agree(communicator, options, planned, description, *task, device.device);

  TrainingRun run(std::move(planned), communicator, device, uint64_t(options.seed),
                  {.clip = options.clip, .graph = options.graph}, schedule);
  std::optional<Outputs> outputs;
  if (first) outputs.emplace(options, ledger_header(description, numerics(device.device)));
  if (first && !run.remark().empty()) print_remark(fmt::format("lockstep: warning: {}\n", run.remark()));
  if (first)
    print_output(fmt::format("training {} with {} on {} ranks x {}, {} parameters, reduce {}, {} virtual ranks{}\n",
                             options.model.name, options.model.optimizer, communicator.size(), describe(device, run),
                             run.model().variables.parameter_count(), to_string(options.plan.reduce),
                             run.plan().settings.virtual_ranks, schedule ? ", schedule " + schedule->text() : ""));

  const std::unique_ptr<BatchSource> batches = task->batches({.batch = options.batch,
                                                              .steps = steps,
                                                              .seed = uint64_t(options.seed),
                                                              .virtual_ranks = run.parts(),
                                                              .first_part = run.step().first_part(),
                                                              .end_part = run.step().last_part()});
  const JudgedModel judged{communicator, run.stream(), run.pool(), run.model(), run.variables().values()};
  const ProgressWords words = task->words();
  Reports reports(run.step(), first,
                  device.device.kind == DeviceKind::cpu || !options.ledger.empty() || !options.metrics.empty());
  Progress progress(first ? stdout : nullptr, draws_on_terminal(options.progress), steps, per_epoch, words);
  CheckIn check_in(communicator, run.step().last_part() - run.step().first_part());
  ProfiledSteps profiled(parse_profile_steps(options.profile_steps));
  int64_t step = 0;
  while (step < steps && check_in.signal() == 0) {
    profiled.begin(step + 1);
    const auto start = std::chrono::steady_clock::now();
    const StepBatch batch = batches->next();
    run.step().queue({batch.step, batch.global_count, batch.parts});
    const StepReport* report = reports.every_step() ? &reports.get() : nullptr;
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    if (outputs && outputs->want_steps())
      outputs->write(reports.get(), batch, words, run.variables(), seconds, check_in.times());
    if (first && step == 0) warn_unused(run, run.step().unused_variables());
    progress.step(step, batch.global_count, [&]() -> const StepReport& { return reports.get(); });
    if (check_in.step(seconds, report ? report->compute_seconds : 0, report ? report->communication_seconds : 0,
                      asked.signal())) {
      const std::string news = check_in.straggler_news();
      if (first && !news.empty()) fmt::print(stderr, "lockstep: warning: {}\n", news);
    }
    if (profiled.ends_after(step + 1)) {
      (void)reports.get();  // waits for the GPU
      profiled.end();
    }
    reports.step_is_over();
    ++step;
    if (options.eval_every > 0 && step % options.eval_every == 0 && step < steps && task->can_score()) {
      progress.pause();
      const Score score = task->score(judged);
      if (first) print_output(fmt::format("step {}/{}  {}\n", step, steps, score.text));
      if (outputs) outputs->write_score(score, step);
      progress.go_on();
    }
    if (options.sample.every > 0 && step % options.sample.every == 0) {
      progress.pause();
      if (first) {
        const std::string text =
            task->sample(options.sample, uint64_t(options.seed), run.model(), run.variables(), device.threads);
        print_output(fmt::format("step {}/{}  sample {}\n", step, steps, printable(json_line(text), 100'000)));
        flush_output();
        outputs->write_sample(text, step);
      }
      // The others' waiting is none of a step's.
      communicator.barrier();
      progress.go_on();
    }
  }

  const double speed = progress.units_per_second();
  run.step().take_averages();
  TrainResult result{.text = "", .steps = step};
  if (step < steps) {
    result.signal = check_in.signal();
    if (first && !options.save.empty()) task->save(options.save, run.model(), run.variables());
    if (first)
      fmt::print(stderr, "lockstep: stopped by {} after step {} of {}; {}\n", name_of_signal(result.signal), step,
                 steps, options.save.empty() ? "without --save nothing is kept" : "the weights are in " + options.save);
    return result;
  }
  if (task->can_score()) {
    const Score score = task->score(judged);
    if (outputs) outputs->write_score(score, std::nullopt);
    result.text = score.text + " ";
  } else {
    result.text = fmt::format("loss={:.4f} ", run.step().report().loss);
  }
  result.text += fmt::format("{}_per_second={:.0f}", words.unit, speed);
  if (first && !options.save.empty()) task->save(options.save, run.model(), run.variables());
  if (first && device.device.kind == DeviceKind::cuda) print_output(memory_text(run));
  return result;
}

}  // namespace lockstep
