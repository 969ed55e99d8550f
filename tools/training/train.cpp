// SPDX-License-Identifier: Apache-2.0
#include "tools/training/train.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>

#include "collectives/handshake.h"
#include "kernels/numerics.h"
#include "runtime/files/standard_output.h"
#include "runtime/state/ledger.h"
#include "tools/supervisor/incident_log.h"
#include "tools/training/build_identity.h"
#include "tools/training/loop/training_loop.h"
#include "tools/training/output_files.h"
#include "tools/training/tasks/chosen_model.h"

namespace lockstep {
namespace {

std::string hex(uint64_t value) { return fmt::format("{:016x}", value); }

// No output may be one of the other files of the run.
void check_files(Communicator& communicator, const TrainOptions& options, const TrainingTask& task) {
  std::vector<NamedFile> inputs = task.inputs();
  inputs.push_back({"the running program", "/proc/self/exe"});
  std::vector<NamedFile> outputs = {
      {"--ledger", options.ledger}, {"--metrics", options.metrics}, {"--record", options.record}};
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

std::string audits_text(const TrainOptions& options) {
  std::string text;
  for (const Audit audit : options.audits) text += str(" audit=", to_string(audit));
  return text;
}

void agree(Communicator& communicator, const TrainOptions& options, const PlannedRun& planned,
           const std::string& description, const TrainingTask& task, Device device) {
  check_agreement(
      communicator,
      {{"binary", build_identity()},
       {"numerics", numerics(device)},
       {"options", str(description, " epochs=", options.epochs, " steps=", options.steps, audits_text(options))},
       {"data", hex(task.content_hash())},
       {"plan", hex(planned.plan.hash())}});
}

std::string describe(const RunDevice& device, const TrainingRun& run) {
  if (device.device.kind == DeviceKind::cpu) return fmt::format("{} threads", device.threads);
  return fmt::format("{} ({})", find_cuda_devices().devices[size_t(device.device.index)].name, run.transport());
}

// What a run that goes on from a checkpoint takes from it where the user says nothing.
TrainOptions completed(TrainOptions options, const ResumedRun& resumed, int ranks) {
  if (!resumed.checkpoint || options.plan.virtual_ranks != 0) return options;
  options.plan.virtual_ranks = int(resumed.checkpoint->manifest.virtual_ranks);
  check_train_options(options, ranks);
  return options;
}

// Everything that has to be the same for the numbers to be.
RunConfiguration configuration_of(const std::vector<RunFact>& facts, const Plan& plan, const TrainingTask& task,
                                  Device device) {
  RunConfiguration configuration;
  for (const RunFact& fact : facts) {
    std::string& value = configuration[fact.name];
    value += (value.empty() ? "" : ", ") + fact.value;
  }
  if (plan.settings.reduce != ReduceMode::tree) configuration["ranks"] = str(plan.settings.batch_ranks());
  configuration["data"] = hex(task.content_hash());
  configuration["numerics"] = numerics(device);
  return configuration;
}

// What copies that were mended are told to.
std::function<void(const ReplicaRepair&)> note_repairs(const Communicator& ranks, const SupervisedRun& supervised) {
  if (ranks.rank() != 0) return {};
  const char* file = std::getenv(kIncidentsVariable);
  return [log = std::make_shared<IncidentLog>(file != nullptr ? file : ""), life = supervised.life(),
          size = ranks.size()](const ReplicaRepair& repair) {
    log->write({.what = repair.what,
                .kind = "replica",
                .life = life,
                .ranks = size,
                .step = repair.step,
                .rank = repair.rank,
                .variable = repair.variable,
                .action = "it was mended, and the step is taken again"});
  };
}

// Of a run under a supervisor, where the machine has the memory for them.
std::optional<StepSnapshot> make_snapshots(TrainingRun& run, Device device, const SupervisedRun& supervised) {
  std::optional<StepSnapshot> snapshots;
  if (supervised.snapshots().empty()) return snapshots;
  try {
    snapshots.emplace(run.batch_axis(), run.variables(), device, supervised.snapshots(), supervised.snapshot_every());
  } catch (const Error& error) {
    if (run.batch_axis().rank() == 0)
      print_remark(fmt::format("lockstep: warning: there are no snapshots of steps: {}\n", error.what()));
  }
  return snapshots;
}

}  // namespace

TrainResult train(const TrainOptions& given, Communicator& communicator, const StopRequest& asked) {
  check_train_options(given, communicator.size());
  // In one process a launch of one GPU's graph may wait for memory or code of another one, which waits for the launch.
  check(!given.graph || given.ranks <= 1 || given.transport == DeviceTransport::staged, ErrorCode::usage,
        "--graph records collectives of NCCL, which GPUs of one process (--ranks) can block each other with; start a "
        "process "
        "for each rank with mpirun, or leave --graph out");
  const bool first = communicator.rank() == 0;
  const std::unique_ptr<TrainingTask> task = make_task(communicator, given.model, given.data);
  task->check_sample(given.sample);
  check_files(communicator, given, *task);
  const RunDevice device = choose_run_device(communicator, given.device, given.transport, given.threads);
  const bool on_gpu = device.device.kind == DeviceKind::cuda;
  SupervisedRun supervised(communicator);
  ResumedRun resumed =
      find_checkpoint(communicator, given.checkpoints, on_gpu ? Copies::per_rank : Copies::per_node, supervised);
  const TrainOptions options = completed(given, resumed, communicator.size());
  PlannedRun planned = plan_run(options.model, task->images(), options.plan, communicator.size(),
                                ranks_per_node(communicator), device.device.kind);
  const Course course = plot_course(options, task->samples(), resumed);
  std::optional<Schedule> schedule;
  if (const std::string text = options.schedule.value_or(task->default_schedule(course.steps));
      options.schedule || !text.empty())
    schedule = make_schedule(text, planned.optimizer.learning_rate());
  const std::string description = run_description(options, planned.optimizer, schedule, planned.plan.settings);
  agree(communicator, options, planned, description, *task, device.device);
  FaultInjection::check_numbers(options.checkpoints.inject, planned.plan, communicator.size(), supervised.life());
  RunConfiguration configuration = configuration_of(
      run_facts(options, planned.optimizer, schedule, planned.plan.settings), planned.plan, *task, device.device);
  const bool changed =
      resumed.checkpoint && check_changes(resumed.checkpoint->path, resumed.checkpoint->manifest.run.configuration,
                                          configuration, options.checkpoints.allow_change);

  TrainingRun run(std::move(planned), communicator, device, uint64_t(options.seed),
                  {.clip = options.clip,
                   .graph = options.graph,
                   .record_parts = !options.record.empty(),
                   .audit_replicas = std::ranges::find(options.audits, Audit::replicas) != options.audits.end(),
                   .on_repair = note_repairs(communicator, supervised)},
                  schedule);
  if (first && !run.remark().empty()) print_remark(fmt::format("lockstep: warning: {}\n", run.remark()));
  if (resumed.checkpoint) restore_variables(run.variables(), run.batch_axis(), *resumed.checkpoint);
  if (resumed.checkpoint) resumed.checkpoint->pieces.clear();
  const RunState* before = resumed.checkpoint ? &resumed.checkpoint->manifest.run : nullptr;
  std::optional<RunOutputs> outputs;
  if (first) outputs.emplace(options, ledger_header(description, numerics(device.device)), before, changed);
  std::optional<RunRecord> record;
  if (!options.record.empty())
    record.emplace(communicator, run.variables(), options.record, resumed.first_step(), patience_of(options));
  const FaultInjection faults(options.checkpoints.inject, communicator.rank(), supervised.life());
  std::optional<RunCheckpoints> checkpoints;
  if (!options.checkpoints.folder.empty())
    checkpoints.emplace(run.batch_axis(), run.variables(), device.device, options.checkpoints, resumed,
                        faults.before_operation());
  std::optional<StepSnapshot> snapshots = make_snapshots(run, device.device, supervised);
  if (first) {
    print_output(fmt::format("training {} with {} on {} ranks x {}, {} parameters, reduce {}, {} virtual ranks{}\n",
                             options.model.name, options.model.optimizer, communicator.size(), describe(device, run),
                             run.model().variables.parameter_count(), to_string(options.plan.reduce),
                             run.plan().settings.virtual_ranks, schedule ? ", schedule " + schedule->text() : ""));
    if (before)
      print_output(fmt::format("going on after step {} of {}, from {}\n", before->step, course.steps,
                               resumed.from_snapshot ? "the snapshot in memory" : resumed.checkpoint->path));
  }
  TrainingLoop loop({.options = options,
                     .ranks = communicator,
                     .run = run,
                     .task = *task,
                     .course = course,
                     .configuration = std::move(configuration),
                     .outputs = outputs ? &*outputs : nullptr,
                     .record = record ? &*record : nullptr,
                     .checkpoints = checkpoints ? &*checkpoints : nullptr,
                     .snapshots = snapshots ? &*snapshots : nullptr,
                     .supervised = supervised,
                     .faults = faults,
                     .asked = asked,
                     .device = device},
                    before && !before->scored);
  if (snapshots && !resumed.from_snapshot) loop.take_snapshot();
  TrainResult result = loop.run();
  supervised.end();
  return result;
}

}  // namespace lockstep
