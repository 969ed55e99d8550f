// SPDX-License-Identifier: Apache-2.0
// Training of a small model on thread ranks, on the CPU or with a GPU for each rank: what tests of steps look at.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "collectives/device/device_communicator.h"
#include "collectives/host/thread_ranks.h"
#include "kernels/softmax.h"
#include "runtime/checkpoint/checkpoint_reader.h"
#include "runtime/checkpoint/checkpoint_writer.h"
#include "runtime/checkpoint/step_snapshot.h"
#include "runtime/layers/linear.h"
#include "runtime/layers/metrics.h"
#include "runtime/ops/ops.h"
#include "runtime/plan/planner.h"
#include "runtime/state/ledger.h"
#include "runtime/state/state_file.h"
#include "runtime/step/train_step.h"
#include "runtime/variables/parameter_groups.h"
#include "tests/support/batch_parts.h"

namespace lockstep::toy {

inline constexpr int64_t kInputs = 12, kClasses = 4, kSamples = 64;

// Data of a toy problem, the same on every rank.
struct Samples {
  std::vector<float> inputs = std::vector<float>(size_t(kSamples * kInputs));
  std::vector<int32_t> labels = std::vector<int32_t>(size_t(kSamples));
  std::vector<int64_t> ids = std::vector<int64_t>(size_t(kSamples));

  Samples() {
    for (int64_t i = 0; i < kSamples * kInputs; ++i) inputs[size_t(i)] = std::sin(float(i * i % 97));
    for (int64_t s = 0; s < kSamples; ++s) labels[size_t(s)] = int32_t(s * 7 % kClasses), ids[size_t(s)] = s;
  }
  // Samples [begin, end) as a leaf.
  BatchPart leaf(int number, int64_t begin, int64_t end) const {
    const int64_t n = end - begin;
    return labelled_part(number, {inputs.data() + begin * kInputs, DType::f32, DeviceKind::cpu, Shape{n, kInputs}},
                         {labels.data() + begin, DType::i32, DeviceKind::cpu, Shape{n}},
                         {ids.data() + begin, DType::i64, DeviceKind::cpu, Shape{n}});
  }
};

struct Setting {
  int ranks = 1;
  int virtual_ranks = 8;
  PlanSettings plan = {};  // apart from mesh, virtual ranks, size of buckets and copies, which are said beside it
  int64_t steps = 20;
  int64_t batch = 16;
  int threads = 1;
  int64_t bucket_bytes = 256;
  std::vector<int> node_of = {};
  std::string optimizer = "adam";
  double learning_rate = 0.01;
  DType weights = DType::f32;
  std::vector<std::string> groups = {};
  std::optional<MovingAverage> average = {};
  std::optional<LossScaling> scaling = {};
  float poison = 0;  // put into the first sample before step 3, which step 4 takes
  ClipOptions clip = {};
  const Schedule* schedule = nullptr;
  float dropout = 0.25f;
  // Of ranks with GPUs.
  bool on_gpu = false;
  DeviceTransport transport = DeviceTransport::automatic;
  bool graph = false;
  bool report_every_step = true;
  bool take_averages = false;  // in the end
  // Not updated from the first of these steps until the second.
  std::vector<std::string> freeze = {};
  int64_t freeze_at = -1, unfreeze_at = -1;
  int64_t first_step = 0;
  uint64_t seed = 1;
  std::string restore = {}, save = {};  // files of state
  // Folders of checkpoints: one to write into, after every so many steps, and one to go on from.
  std::string checkpoints = {}, resume = {};
  int64_t checkpoint_every = 1;
  FileOperations::Before before_operation = {};  // of all ranks
  KeepRules keep = {};
  // Called by each rank before a step is taken, or none.
  std::function<void(int64_t step, int rank, VariableStore& variables, TrainStep& taken)> before_step = {};
  std::function<void(int64_t step, TrainStep& taken)> after_step = {};  // the same, afterwards
  bool record_parts = false;
  bool audit_replicas = false;
  std::function<void(const ReplicaRepair&, VariableStore&)> on_repair = {};  // on all ranks
  // Folders of snapshots, which are taken after every step: one to write into, and one to go on from.
  std::string snapshots = {}, resume_snapshots = {};
};

inline PlanSettings plan_settings(const Setting& setting) {
  PlanSettings plan = setting.plan;
  plan.mesh = {{"data", setting.ranks}};
  plan.virtual_ranks = setting.virtual_ranks;
  plan.bucket_bytes = setting.bucket_bytes;
  plan.copies = setting.on_gpu ? Copies::per_rank : Copies::per_node;
  return plan;
}

struct Outcome {
  std::vector<std::string> ledger;
  std::vector<float> losses;
  std::map<std::string, std::vector<double>> values;  // of all variables in the end, by path
  std::vector<int64_t> counters;                      // by rank
  std::vector<double> learning_rates;
  std::vector<bool> skipped;  // by step
  std::vector<std::string> not_finite, origins;
  std::string last_not_finite;
  std::vector<CollectiveRecord> trace;                                                // of rank 0
  int64_t gradient_bytes = 0, parameter_bytes = 0, slot_bytes = 0, scalar_bytes = 0;  // of rank 0, by the pool
  StepReport last;  // its names have gone with the plan
  int64_t first_step = 0;
  std::vector<std::string> complaints;  // of checkpoints
  std::vector<ReplicaRepair> repairs;
};

inline std::vector<double> doubles(const VariableStore& store, const PlannedVariable& variable) {
  const HostValue value = store.host(variable);
  std::vector<double> all;
  for (int64_t i = 0; i < variable.shape.size(); ++i)
    all.push_back(variable.dtype == DType::f32    ? double(data<float>(value.view())[i])
                  : variable.dtype == DType::bf16 ? double(float(data<bfloat16>(value.view())[i]))
                  : variable.dtype == DType::f16  ? double(float(data<float16>(value.view())[i]))
                  : variable.dtype == DType::f64  ? data<double>(value.view())[i]
                                                  : double(data<int64_t>(value.view())[i]));
  return all;
}

inline Outcome train(const Setting& setting) {
  Samples samples;
  VariableTable variables;
  const Linear first(variables, "first", kInputs, 16), last(variables, "last", 16, kClasses);
  if (is_narrow(setting.weights)) variables.narrow_weights(setting.weights);
  const Forward forward = [&](Context& context, const Batch& batch) {
    Tensor x = dropout(context, gelu(context, first(context, batch["inputs"])), setting.dropout);
    const Tensor labels = batch["labels"], logits = last(context, x);
    return Results{softmax_cross_entropy(context, logits, labels),
                   {{"correct", count_correct(context, logits, labels)}}};
  };
  OptimizerChoice choice{.name = setting.optimizer,
                         .options = {{"learning_rate", setting.learning_rate}},
                         .average = setting.average,
                         .scaling = setting.scaling};
  for (const std::string& rule : setting.groups) choice.rules.push_back(parse_group_rule(rule));
  const OptimizerSet optimizer = make_optimizer_set(variables, choice);
  const Plan plan = make_plan({.variables = variables, .optimizer = optimizer, .settings = plan_settings(setting)});
  Outcome outcome;
  outcome.counters.resize(size_t(setting.ranks));
  outcome.learning_rates.resize(size_t(setting.ranks));
  run_thread_ranks({.ranks = setting.ranks, .node_of = setting.node_of}, [&](Communicator& communicator) {
    Samples mine = samples;
    const Device device = setting.on_gpu ? choose_device(communicator, setting.transport) : Device{};
    Stream stream = setting.on_gpu ? Stream::cuda(device.index) : Stream::cpu(setting.threads);
    std::unique_ptr<DeviceCommunicator> gpus;
    if (setting.on_gpu) gpus = make_device_communicator(communicator, device, setting.transport);
    Pool pool(stream.device());
    // Seeds differ on purpose: rank 0's first values are to be everyone's.
    VariableStore store(plan, variables, optimizer, communicator, pool,
                        setting.seed + uint64_t(communicator.rank() * 1000), setting.on_gpu ? &stream : nullptr);
    TrainStep step(communicator, store, optimizer, forward, stream, pool, /*seed=*/5,
                   {.clip = setting.clip,
                    .schedule = setting.schedule,
                    .device = gpus.get(),
                    .graph = setting.graph,
                    .record_parts = setting.record_parts,
                    .audit_replicas = setting.audit_replicas,
                    .on_repair = [&](const ReplicaRepair& repair) {
                      if (communicator.rank() == 0) outcome.repairs.push_back(repair);
                      if (setting.on_repair) setting.on_repair(repair, store);
                    }});
    communicator.log().keep_records(true);
    if (!setting.restore.empty()) restore_state(setting.restore, store, communicator);
    int64_t first_step = setting.first_step;
    if (!setting.resume.empty() || !setting.resume_snapshots.empty()) {
      const NewestCheckpoint newest =
          load_newest_checkpoint(communicator, setting.resume, plan.settings.copies, setting.resume_snapshots);
      if (communicator.rank() == 0)
        for (const auto& [number, complaint] : newest.damaged) outcome.complaints.push_back(complaint);
      check(newest.loaded.has_value(), ErrorCode::data, "no checkpoint can be read");
      restore_variables(store, communicator, *newest.loaded);
      first_step = newest.loaded->manifest.run.step;
    }
    if (communicator.rank() == 0) outcome.first_step = first_step;
    std::optional<CheckpointWriter> writer;
    if (!setting.checkpoints.empty())
      writer.emplace(
          communicator, store, stream.device(),
          CheckpointOptions{
              .folder = setting.checkpoints, .keep = setting.keep, .before_operation = setting.before_operation});
    std::optional<StepSnapshot> snapshots;
    if (!setting.snapshots.empty())
      snapshots.emplace(communicator, store, stream.device(), setting.snapshots, /*every=*/1);
    const auto note_complaint = [&] {
      const std::string complaint = writer->take_complaint();
      if (!complaint.empty() && communicator.rank() == 0) outcome.complaints.push_back(complaint);
    };
    for (int64_t s = first_step; s < setting.steps; ++s) {
      for (const std::string& path : setting.freeze)
        if (s == setting.freeze_at || s == setting.unfreeze_at) step.set_frozen(path, s == setting.freeze_at);
      if (s == 3 && setting.poison != 0) mine.inputs[0] = setting.poison;
      if (setting.before_step) setting.before_step(s, communicator.rank(), store, step);
      const int64_t begin = s * setting.batch % kSamples;
      const int64_t count = std::min(setting.batch, kSamples - begin);  // the last of a round may be partial
      std::vector<BatchPart> own;
      for (int leaf = step.first_part(); leaf < step.last_part(); ++leaf)
        own.push_back(mine.leaf(leaf, begin + leaf * count / plan.settings.parts(),
                                begin + (leaf + 1) * count / plan.settings.parts()));
      step.queue({s, count, own});
      if (setting.after_step) setting.after_step(s, step);
      if (writer) {  // ranks tell each other how far they are, as the loop of a program has them do
        std::vector<CheckpointWriter::News> news;
        for (const std::string& text : communicator.all_gather_bytes(str(int(writer->news()))))
          news.push_back(CheckpointWriter::News(std::stoi(text)));
        writer->hear(news);
        note_complaint();
      }
      RunState state;
      state.step = s + 1;
      state.position = {.batch = setting.batch, .samples = kSamples};
      if (snapshots) snapshots->take(state);
      if (writer && (s + 1) % setting.checkpoint_every == 0) {
        writer->begin(state);
        note_complaint();
      }
      if (!setting.report_every_step && s + 1 < setting.steps) continue;
      const StepReport report = step.report();
      if (communicator.rank() != 0) continue;
      outcome.last = report;
      outcome.last_not_finite = report.last_not_finite;
      outcome.skipped.push_back(report.skipped);
      outcome.not_finite.emplace_back(report.not_finite);
      outcome.origins.push_back(report.origin);
      outcome.ledger.push_back(ledger_line(s, report.loss, store, 0));
      outcome.losses.push_back(report.loss);
    }
    if (writer) writer->finish(), note_complaint();
    if (setting.take_averages) step.take_averages();
    if (!setting.save.empty() && communicator.rank() == 0) save_state(setting.save, store);
    outcome.counters[size_t(communicator.rank())] = store.scalars().iteration();
    outcome.learning_rates[size_t(communicator.rank())] = store.scalars().learning_rate();
    if (communicator.rank() == 0) {
      for (const PlannedVariable& variable : plan.variables) outcome.values[variable.path] = doubles(store, variable);
      outcome.trace = communicator.log().records();
      outcome.gradient_bytes = pool.live(Purpose::gradients).now;
      outcome.parameter_bytes = pool.live(Purpose::parameters).now;
      outcome.slot_bytes = pool.live(Purpose::slots).now;
      outcome.scalar_bytes = pool.live(Purpose::scalars).now;
    }
    communicator.barrier();
  });
  return outcome;
}

}  // namespace lockstep::toy
