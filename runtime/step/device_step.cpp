// SPDX-License-Identifier: Apache-2.0
// The step of ranks with a GPU each: all of it is queued, and nothing in it waits for the host. Gradients travel bucket
// by bucket while the backward pass goes on; then one kernel decides and one updates.
#include <algorithm>
#include <cmath>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "collectives/gradients/device_gradient_reducer.h"
#include "kernels/device/graph.h"
#include "kernels/device/transfer.h"
#include "kernels/dropout.h"
#include "kernels/pointwise.h"
#include "optimizers/moving_average.h"
#include "optimizers/step_verdict.h"
#include "runtime/data/batch_upload.h"
#include "runtime/plan/buckets.h"
#include "runtime/step/step_engine.h"
#include "runtime/step/step_tables.h"
#include "runtime/step/tensor_updates.h"

namespace lockstep {
namespace {

// What of a step's launches comes from the host: a recorded step serves steps of the same shape.
struct StepShape {
  int64_t global_count = 0;
  std::vector<std::pair<int, int64_t>> leaves;  // number, samples
  auto operator<=>(const StepShape&) const = default;
};

StepShape shape_of(const StepInput& input) {
  StepShape shape{input.global_count, {}};
  for (const LeafInput& leaf : input.leaves) shape.leaves.emplace_back(leaf.leaf, leaf.sample_ids.size());
  return shape;
}

constexpr int32_t kFrozen = -1;

class DeviceStep final : public StepEngine {
 public:
  explicit DeviceStep(const StepParts& parts);

  int first_leaf() const override { return reducer_.first_leaf(); }
  int last_leaf() const override { return reducer_.last_leaf(); }
  View begin_leaf(int leaf) override { return reducer_.begin_leaf(leaf, stream_); }
  void gradient_ready(size_t bucket) override { reducer_.gradient_ready(bucket, stream_); }
  void without_leaves() override { reducer_.no_leaves(stream_); }
  View cells() override { return tables_.cells(); }
  void run(const StepInput& input, const Passes& passes) override;
  StepReport report() override;
  void set_frozen(int32_t variable, bool frozen) override;
  void take_averages() override;

 private:
  void queue(const StepInput& on_device, const ConstView& dropout_key, const Passes& passes);
  void launch_recorded(const StepInput& on_device, const ConstView& dropout_key, const Passes& passes);
  void exchange_cells();
  void decide(int64_t global_count);
  void update(int32_t group);
  void update_range(int32_t group, int64_t begin, int64_t end);
  void update_tensors(int32_t group);
  void average();
  void keep_within_bounds();

  DeviceCommunicator& device_;
  VariableStore& variables_;
  OptimizerSet optimizer_;
  Stream& stream_;
  uint64_t seed_;
  StepOptions options_;
  DeviceGradientReducer reducer_;
  int leaves_;  // of the whole batch
  StepTables tables_;
  RateTable rates_;
  BatchUpload upload_;
  std::vector<int32_t> groups_;  // by variable of the plan; kFrozen: of none
  std::optional<TensorUpdates> tensor_updates_;
  Event begun_, computed_, reduced_, done_;  // of the last step that was not recorded
  bool timed_ = false;

  // Shapes that have run once, so that memory and plans of products are there, and those recorded since.
  std::set<StepShape> warm_;
  struct RecordedStep {
    Graph graph;
    CallLog::Calls collectives;  // entered with every launch
  };
  std::map<StepShape, RecordedStep> graphs_;
  // What recorded launches hold besides: a change makes them void.
  struct Addresses {
    int uploads = 0;
    int rates = 0;
    int groups = 0;
    int64_t scratch_bytes = 0;
    friend bool operator==(const Addresses&, const Addresses&) = default;
  };
  Addresses recorded_with_;
};

DeviceCommunicator& device_of(const StepParts& parts) {
  check(parts.options.device != nullptr, ErrorCode::internal,
        "a step on a GPU needs the communicator that carries its gradients");
  const bool alone = parts.communicator.size() == 1;
  check(!parts.options.graph || alone || parts.options.device->recordable(), ErrorCode::usage, [&] {
    return str("--graph records collectives, which the transport '", parts.options.device->transport(),
               "' does with the help of the host; use --transport nccl, or leave --graph out");
  });
  return *parts.options.device;
}

int leaves_of_batch(const StepParts& parts) {
  return parts.mode == ReduceMode::tree ? parts.variables.plan().settings.virtual_ranks : parts.communicator.size();
}

DeviceStep::DeviceStep(const StepParts& parts)
    : device_(device_of(parts)),
      variables_(parts.variables),
      optimizer_(parts.optimizer),
      stream_(parts.stream),
      seed_(parts.seed),
      options_(parts.options),
      reducer_(device_, reducer_buckets(variables_.plan()), variables_.plan().arena_elements, parts.mode,
               variables_.plan().settings.virtual_ranks, parts.pool, stream_, variables_.plan().settings.reduce_dtype),
      leaves_(leaves_of_batch(parts)),
      tables_(variables_.plan(), optimizer_, verdict_cells(leaves_, device_.size()), parts.pool, stream_),
      rates_(options_.schedule, variables_, parts.pool, stream_),
      upload_(stream_, parts.pool, [this](Event& event) { device_.wait_for(event); }),
      begun_(stream_.device(), Event::Timing::on),
      computed_(stream_.device(), Event::Timing::on),
      reduced_(stream_.device(), Event::Timing::on),
      done_(stream_.device(), Event::Timing::on) {
  std::vector<int32_t> trained;
  for (const PlannedVariable& variable : variables_.plan().variables) {
    groups_.push_back(variable.in_gradient_sync ? optimizer_.group_of(variable.path) : kFrozen);
    if (variable.in_gradient_sync) trained.push_back(int32_t(groups_.size()) - 1);
  }
  if (optimizer_.any_updates_by_tensor()) tensor_updates_.emplace(variables_, optimizer_, trained, parts.pool);
}

void DeviceStep::run(const StepInput& input, const Passes& passes) {
  rates_.cover_next_step();
  const BatchUpload::OnDevice& batch = upload_.bring(input.leaves, dropout_key(seed_, input.step));
  const StepInput on_device{input.step, input.global_count, batch.leaves};
  timed_ = !options_.graph;
  if (options_.graph) return launch_recorded(on_device, batch.dropout_key, passes);
  begun_.record(stream_);
  queue(on_device, batch.dropout_key, passes);
  done_.record(stream_);
}

void DeviceStep::launch_recorded(const StepInput& on_device, const ConstView& dropout_key, const Passes& passes) {
  const StepShape shape = shape_of(on_device);
  if (warm_.insert(shape).second) return queue(on_device, dropout_key, passes);
  const Addresses now{upload_.generation(), rates_.generation(), tables_.generation(), stream_.scratch_bytes()};
  if (!(now == std::exchange(recorded_with_, now))) graphs_.clear();
  auto recorded = graphs_.find(shape);
  if (recorded == graphs_.end()) {
    CallLog::Calls collectives;
    Graph graph = Graph::record(
        stream_, [&] { collectives = device_.ranks().log().capture([&] { queue(on_device, dropout_key, passes); }); });
    recorded = graphs_.emplace(shape, RecordedStep{std::move(graph), std::move(collectives)}).first;
  }
  device_.ranks().log().enter(recorded->second.collectives);
  recorded->second.graph.launch(stream_);
}

void DeviceStep::queue(const StepInput& on_device, const ConstView& dropout_key, const Passes& passes) {
  clear(stream_, tables_.cells());
  passes(on_device, dropout_key);
  if (timed_) computed_.record(stream_);
  reducer_.wait(stream_);
  exchange_cells();
  tables_.measure(stream_, reducer_.sums());
  if (timed_) reduced_.record(stream_);
  decide(on_device.global_count);
  for (int32_t group = 0; group < optimizer_.groups(); ++group) update(group);
  if (optimizer_.average()) average();
  keep_within_bounds();
}

// Each cell has one rank that writes it and zeros elsewhere: the sum is exact in any order.
void DeviceStep::exchange_cells() {
  if (device_.size() == 1) return;
  device_.all_reduce(tables_.cells(), ReduceOp::sum, stream_).wait(stream_);
}

// The first group's launch decides, counts and sets the run's rate; the others follow.
void DeviceStep::decide(int64_t global_count) {
  StepVerdict verdict = tables_.verdict(leaves_, global_count, options_.clip);
  if (optimizer_.scaling()) {
    verdict.loss_scale = variables_.loss_scale_cell();
    verdict.growth_steps = double(optimizer_.scaling()->growth_steps);
  }
  for (int32_t group = 0; group < optimizer_.groups(); ++group) {
    LearningRates rates = rates_.rates();
    rates.factor = optimizer_.group(group).rate_factor;
    rates.own = optimizer_.group(group).own_rate.value_or(-1);
    rates.counted = group > 0;
    optimizer_.group(group).optimizer->prepare(stream_, tables_.state(variables_, group, seed_), rates,
                                               group == 0 ? &verdict : nullptr);
  }
}

void DeviceStep::update(int32_t group) {
  const Optimizer& optimizer = *optimizer_.group(group).optimizer;
  if (optimizer.updates_by_tensor()) return update_tensors(group);
  for (const auto& [begin, end, dtype, byte] : variables_.dtype_ranges()) update_range(group, begin, end);
}

void DeviceStep::update_range(int32_t group, int64_t begin, int64_t end) {
  const Optimizer& optimizer = *optimizer_.group(group).optimizer;
  std::vector<View> slots;
  for (size_t s = 0; s < optimizer.slots().size(); ++s) slots.push_back(variables_.slot(int32_t(s), begin, end));
  UpdateOperands operands{.param = variables_.master_or_parameter(begin, end),
                          .grad = slice(reducer_.sums(), begin, end),
                          .slots = slots,
                          .working_copy = variables_.working_copy(begin, end)};
  const bool narrow = is_narrow(operands.param.dtype) || operands.working_copy.data != nullptr;
  if (options_.clip.clipnorm > 0 || tables_.grouped() || narrow) operands.granules = tables_.granule_map(group, begin);
  optimizer.update(stream_, tables_.state(variables_, group, seed_), operands);
}

void DeviceStep::update_tensors(int32_t group) {
  const Optimizer& optimizer = *optimizer_.group(group).optimizer;
  const StepState state = tables_.state(variables_, group, seed_);
  for (size_t v = 0; v < groups_.size(); ++v) {
    if (groups_[v] != group) continue;
    const PlannedVariable& variable = variables_.plan().variables[v];
    tensor_updates_->run(stream_, optimizer, state, int32_t(v),
                         slice(reducer_.sums(), variable.offset, variable.offset + variable.shape.size()),
                         options_.clip.clipnorm > 0 ? tables_.factor(int32_t(v)) : nullptr);
  }
}

void DeviceStep::average() {
  const MovingAverage& average = *optimizer_.average();
  for (const auto& [begin, end, dtype, byte] : variables_.dtype_ranges()) {
    launch(stream_, AverageParameters{.momentum = average.momentum,
                                      .overwrite_every = average.overwrite_every,
                                      .iteration = variables_.iteration_cell(),
                                      .decision = tables_.decision(),
                                      .param = variables_.master_or_parameter(begin, end),
                                      .average = variables_.slot(optimizer_.average_slot(), begin, end)});
    if (average.overwrite_every > 0) variables_.round_masters_into_parameters(stream_, begin, end);
  }
}

void DeviceStep::keep_within_bounds() {
  for (size_t v = 0; v < groups_.size(); ++v) {
    const PlannedVariable& variable = variables_.plan().variables[v];
    const Bounds* bounds = groups_[v] == kFrozen ? nullptr : optimizer_.bounds_of(variable.path);
    if (bounds == nullptr) continue;
    const int64_t begin = variable.offset, end = begin + variable.shape.size();
    launch(stream_, KeepWithin{variables_.master_or_parameter(begin, end), *bounds, tables_.decision()});
    variables_.round_masters_into_parameters(stream_, begin, end);
  }
}

void DeviceStep::set_frozen(int32_t variable, bool frozen) {
  const std::string& path = variables_.plan().variables[size_t(variable)].path;
  groups_[size_t(variable)] = frozen ? kFrozen : optimizer_.group_of(path);
  tables_.set_group(stream_, variable, frozen ? std::nullopt : std::optional(optimizer_.group_of(path)));
}

void DeviceStep::take_averages() {
  if (!optimizer_.average()) return;
  for (const auto& [begin, end, dtype, byte] : variables_.dtype_ranges()) {
    const View average = variables_.slot(optimizer_.average_slot(), begin, end);
    launch(stream_, Copy{variables_.master_or_parameter(begin, end), average});
    variables_.round_masters_into_parameters(stream_, begin, end);
  }
}

StepReport DeviceStep::report() {
  tables_.fetch_outcome(stream_);
  device_.synchronize(stream_);
  const StepOutcome& outcome = tables_.outcome();
  if (outcome.broken != 0) fail_loss(outcome.broken_loss, outcome.broken_step, variables_.learning_rate());
  StepReport report;
  report.loss = outcome.loss;
  report.correct = outcome.correct;
  report.skipped = outcome.last_skipped >= 0 && outcome.last_skipped == outcome.steps - 1;
  report.loss_sum = outcome.loss_sum;
  report.correct_sum = outcome.correct_sum;
  report.skipped_sum = outcome.skipped;
  if (outcome.last_not_finite >= 0)
    report.last_not_finite = variables_.plan().variables[size_t(tables_.variable(outcome.last_not_finite))].path;
  if (report.skipped) report.not_finite = report.last_not_finite;
  if (timed_) {
    report.communication_seconds = reduced_.seconds_since(computed_);
    report.compute_seconds = done_.seconds_since(begun_) - report.communication_seconds;
  }
  return report;
}

}  // namespace

std::unique_ptr<StepEngine> make_device_step(const StepParts& parts) { return std::make_unique<DeviceStep>(parts); }

}  // namespace lockstep
