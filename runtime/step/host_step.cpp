// SPDX-License-Identifier: Apache-2.0
// The step of ranks that share the memory of their node: each sums and updates its slice in place, and the others see
// the result without a message.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <optional>
#include <utility>

#include "collectives/gradients/finite.h"
#include "kernels/dropout.h"
#include "kernels/pointwise.h"
#include "optimizers/moving_average.h"
#include "runtime/plan/buckets.h"
#include "runtime/step/step_engine.h"
#include "runtime/step/tensor_owners.h"
#include "runtime/step/tensor_updates.h"

namespace lockstep {
namespace {

class Stopwatch {
 public:
  double lap() {
    const auto now = std::chrono::steady_clock::now();
    return std::chrono::duration<double>(now - std::exchange(last_, now)).count();
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

constexpr uint32_t kFrozen = ~0u;

class HostStep final : public StepEngine {
 public:
  explicit HostStep(const StepParts& parts);
  ~HostStep() override { pool_.enter(Purpose::gradients, -reducer_.shared_bytes()); }

  int first_leaf() const override { return reducer_.first_leaf(); }
  int last_leaf() const override { return reducer_.last_leaf(); }
  View begin_leaf(int leaf) override { return reducer_.begin_leaf(leaf); }
  void gradient_ready(size_t bucket) override { reducer_.gradient_ready(bucket, stream_); }
  void without_leaves() override { reducer_.no_leaves(); }
  View cells() override { return {results_.data(), DType::f64, DeviceKind::cpu, Shape{int64_t(results_.size())}}; }
  void run(const StepInput& input, const Passes& passes) override;
  StepReport report() override { return report_; }
  void set_frozen(int32_t variable, bool frozen) override;
  void take_averages() override;

 private:
  void share_tensors_out();
  int32_t first_not_finite() const;
  void exchange_results(StepReport& report);
  void update();
  void measure_norms();
  StepState state_of(int32_t group);
  void prepare(int32_t group, int64_t step);
  void update_bucket(size_t bucket);
  void update_tensors();
  void update_tensor(int32_t variable);
  void average(int64_t step);
  void keep_within_bounds();
  void clear_gradients();
  double scale() const { return variables_.loss_scale_cell() ? *variables_.loss_scale_cell() : 1; }

  Communicator& communicator_;
  VariableStore& variables_;
  OptimizerSet optimizer_;
  Stream& stream_;
  Pool& pool_;
  uint64_t seed_;
  StepOptions options_;
  GradientReducer reducer_;
  int leaves_;  // of the whole batch
  // By leaf: loss, right answers; then by rank: one plus its first variable with a gradient that is not finite, or 0.
  std::vector<double> results_;
  StepScalars scalars_;
  ClipOptions clip_;
  std::optional<SquareSums> squares_;  // where clipping needs norms
  // By variable of the plan: factors of gradients, where each is clipped by its own norm; groups, or kFrozen.
  std::vector<float> factors_;
  std::vector<uint32_t> groups_;
  std::vector<uint32_t> variable_of_;  // by kGranule elements of the arena
  // By variable of the plan: the number of its first granule less its place in the arena, for stochastic rounding.
  std::vector<int64_t> numbers_;
  std::vector<std::vector<double>> constants_;  // of the step, by group
  bool all_alike_;                              // whether all variables are of group 0 and updated by ranges
  // Of optimizers that work tensor by tensor: each tensor has one rank of the node.
  std::vector<int32_t> mine_;     // variables of the plan
  std::vector<int32_t> bounded_;  // variables of the plan that have bounds
  Buffer tensor_gradient_;
  std::optional<TensorUpdates> tensor_updates_;
  std::vector<View> slots_;  // of the range at work
  StepReport report_;
};

HostStep::HostStep(const StepParts& parts)
    : communicator_(parts.communicator),
      variables_(parts.variables),
      optimizer_(parts.optimizer),
      stream_(parts.stream),
      pool_(parts.pool),
      seed_(parts.seed),
      options_(parts.options),
      reducer_(communicator_, reducer_buckets(variables_.plan()), variables_.plan().arena_elements, parts.mode,
               variables_.plan().settings.virtual_ranks, variables_.plan().settings.reduce_dtype),
      leaves_(parts.mode == ReduceMode::tree ? variables_.plan().settings.virtual_ranks : communicator_.size()),
      results_(size_t(verdict_cells(leaves_, communicator_.size()))),
      clip_(options_.clip),
      factors_(variables_.plan().variables.size(), 1.0f),
      numbers_(granule_numbers(variables_.plan())) {
  const Plan& plan = variables_.plan();
  for (size_t v = 0; v < numbers_.size(); ++v) numbers_[v] -= plan.variables[v].offset / kGranule;
  variable_of_.resize(size_t(plan.arena_elements / kGranule));  // padding goes with any variable
  for (size_t v = 0; v < plan.variables.size(); ++v) {
    const PlannedVariable& variable = plan.variables[v];
    groups_.push_back(uint32_t(optimizer_.group_of(variable.path)));
    if (!variable.in_gradient_sync) continue;
    if (optimizer_.bounds_of(variable.path)) bounded_.push_back(int32_t(v));
    const int64_t end = variable.offset + round_up(variable.shape.size(), kGranule);
    std::fill(variable_of_.begin() + variable.offset / kGranule, variable_of_.begin() + end / kGranule, uint32_t(v));
  }
  for (int32_t group = 0; group < optimizer_.groups(); ++group)
    constants_.emplace_back(size_t(optimizer_.group(group).optimizer->constants_bytes() / 8 + 1));
  all_alike_ = optimizer_.groups() == 1 && !optimizer_.any_updates_by_tensor();
  if (optimizer_.any_updates_by_tensor()) share_tensors_out();
  check(!options_.graph, ErrorCode::usage, "a graph records the work of a GPU; leave --graph out on CPU ranks");
  if (clip_.by_norm()) squares_.emplace(communicator_, variables_.plan(), pool_);
  pool_.enter(Purpose::gradients, reducer_.shared_bytes());
}

void HostStep::run(const StepInput& input, const Passes& passes) {
  const StepReport before = std::exchange(report_, {});
  report_.loss_sum = before.loss_sum;
  report_.correct_sum = before.correct_sum;
  report_.skipped_sum = before.skipped_sum;
  report_.last_not_finite = before.last_not_finite;
  Stopwatch watch;
  std::fill(results_.begin(), results_.end(), 0.0);
  // Every rank computes the rate of its own replica, from the counter: a step that was skipped is tried at its rate.
  if (options_.schedule) variables_.set_learning_rate(options_.schedule->at(variables_.iteration()));
  const auto key = int64_t(dropout_key(seed_, input.step));
  passes(input, {&key, DType::i64, DeviceKind::cpu, Shape{}});
  report_.compute_seconds += watch.lap();

  reducer_.wait(stream_);
  exchange_results(report_);
  report_.loss /= float(input.global_count);
  report_.communication_seconds += watch.lap();

  // Both verdicts are over all ranks, so all take the same way from here.
  if (!std::isfinite(report_.loss)) fail_loss(report_.loss, input.step, variables_.learning_rate());
  report_.loss_sum += double(report_.loss) * double(input.global_count);
  report_.correct_sum += report_.correct;
  report_.skipped_sum += report_.skipped;
  if (report_.skipped) report_.last_not_finite = report_.not_finite;
  if (report_.skipped)
    clear_gradients();
  else
    update();
  if (optimizer_.scaling())
    adjust_loss_scale(variables_.loss_scale_cell(), double(optimizer_.scaling()->growth_steps), report_.skipped);
  report_.compute_seconds += watch.lap();
  reducer_.node_barrier();
  report_.communication_seconds += watch.lap();
}

// The first variable of the plan with a sum that is not finite among those this rank added up, or -1. Sums are looked
// at a second time only after adding them has shown that there is one.
int32_t HostStep::first_not_finite() const {
  if (reducer_.sums_are_finite()) return -1;
  const Plan& plan = variables_.plan();
  for (size_t v = 0; v < plan.variables.size(); ++v) {
    const PlannedVariable& variable = plan.variables[v];
    if (!variable.in_gradient_sync) continue;
    const GradientReducer::Slice summed = reducer_.summed(size_t(variable.bucket));
    const int64_t begin = std::max(summed.begin, variable.offset);
    const int64_t end = std::min(summed.end, variable.offset + variable.shape.size());
    if (begin < end && !all_finite(data<float>(ConstView(summed.sum)) + (begin - summed.begin), end - begin))
      return int32_t(v);
  }
  return -1;
}

void HostStep::exchange_results(StepReport& report) {
  const auto verdicts = std::span(results_).subspan(size_t(2 * leaves_));
  verdicts[size_t(communicator_.rank())] = double(1 + first_not_finite());
  // Each cell has one rank that writes it and zeros elsewhere: the sum is exact in any order.
  const View cells{results_.data(), DType::f64, DeviceKind::cpu, Shape{int64_t(results_.size())}};
  communicator_.all_reduce(cells, ReduceOp::sum, stream_).wait(stream_);
  double correct = 0;
  for (int leaf = 0; leaf < leaves_; ++leaf) correct += results_[size_t(2 * leaf + 1)];
  report.loss = sum_of_losses(results_.data(), leaves_);
  report.correct = int64_t(correct);
  double first = 0;
  for (const double verdict : verdicts)
    if (verdict > 0 && (first == 0 || verdict < first)) first = verdict;
  report.skipped = first > 0;
  if (report.skipped) report.not_finite = variables_.plan().variables[size_t(first) - 1].path;
}

void HostStep::update() {
  const int64_t step = variables_.iteration() + 1;
  scalars_ = {.grad_scale = float(1 / scale()), .clip_value = float(clip_.clipvalue) * float(scale())};
  if (squares_) measure_norms();
  for (int32_t group = 0; group < optimizer_.groups(); ++group) prepare(group, step);
  for (size_t bucket = 0; bucket < reducer_.buckets(); ++bucket) update_bucket(bucket);
  if (optimizer_.any_updates_by_tensor()) update_tensors();
  if (optimizer_.average()) average(step);
  keep_within_bounds();
  // Once per committed step: not per leaf, bucket, group or rank.
  variables_.set_iteration(step);
}

void HostStep::measure_norms() {
  const std::span<const double> squares = squares_->run(reducer_, stream_);
  if (clip_.global_clipnorm > 0)
    scalars_.grad_scale *= clip_factor(std::sqrt(squares_->total()) / scale(), clip_.global_clipnorm);
  if (clip_.clipnorm == 0) return;
  scalars_.grad_scale = 1;  // part of the factors
  for (size_t v = 0; v < squares.size(); ++v)
    factors_[v] = clip_factor(std::sqrt(squares[v]) / scale(), clip_.clipnorm) / float(scale());
}

StepState HostStep::state_of(int32_t group) {
  return {.iteration = nullptr,
          .learning_rate = nullptr,
          .scalars = variables_.scalar_cells() + optimizer_.first_scalar(group),
          .decision = &scalars_,
          .constants = constants_[size_t(group)].data(),
          .seed = seed_};
}

// Every group counts from the counter, which moves on when all is done.
void HostStep::prepare(int32_t group, int64_t step) {
  int64_t before = step - 1;
  double rate = optimizer_.rate_of(group, variables_.learning_rate());
  StepState state = state_of(group);
  state.iteration = &before;
  state.learning_rate = &rate;
  optimizer_.group(group).optimizer->prepare(stream_, state, {}, nullptr);
}

void HostStep::update_bucket(size_t bucket) {
  const GradientReducer::Slice owned = reducer_.owned(bucket);
  if (owned.begin == owned.end) return;
  for (int32_t group = 0; group < optimizer_.groups(); ++group) {
    const Optimizer& optimizer = *optimizer_.group(group).optimizer;
    if (optimizer.updates_by_tensor()) continue;
    slots_.clear();
    for (size_t s = 0; s < optimizer.slots().size(); ++s)
      slots_.push_back(variables_.slot(int32_t(s), owned.begin, owned.end));
    UpdateOperands operands{.param = variables_.master_or_parameter(owned.begin, owned.end),
                            .grad = owned.sum,
                            .slots = slots_,
                            .working_copy = variables_.working_copy(owned.begin, owned.end)};
    const bool narrow = is_narrow(operands.param.dtype) || operands.working_copy.data != nullptr;
    if (clip_.clipnorm > 0 || !all_alike_ || narrow)
      operands.granules = {.variable_of = variable_of_.data() + owned.begin / kGranule,
                           .factors = factors_.data(),
                           .groups = all_alike_ ? nullptr : groups_.data(),
                           .group = uint32_t(group),
                           .numbers = numbers_.data(),
                           .first = owned.begin / kGranule};
    optimizer.update(stream_, state_of(group), operands);
  }
}

void HostStep::share_tensors_out() {
  const Place place = communicator_.place();
  mine_ = tensors_of_rank(variables_.plan(), optimizer_, place.local_rank, place.local_size);
  if (mine_.empty()) return;
  int64_t gradient = 1;
  for (const int32_t v : mine_)
    gradient = std::max(gradient, variables_.plan().variables[size_t(v)].shape.size() * size_of(DType::f32));
  tensor_gradient_ = Buffer(pool_, gradient, Purpose::scratch);
  tensor_updates_.emplace(variables_, optimizer_, mine_, pool_);
}

// Every rank reads tensors from slices of all, and writes to parameters of all.
void HostStep::update_tensors() {
  reducer_.node_barrier();
  for (const int32_t variable : mine_)
    if (groups_[size_t(variable)] != kFrozen) update_tensor(variable);
  reducer_.node_barrier();
}

void HostStep::update_tensor(int32_t v) {
  const PlannedVariable& variable = variables_.plan().variables[size_t(v)];
  const int64_t begin = variable.offset, end = begin + variable.shape.size();
  auto* gradient = static_cast<float*>(tensor_gradient_.data());
  int64_t at = 0;
  reducer_.visit_sums(size_t(variable.bucket), begin, end, [&](const float* values, int64_t n) {
    std::copy_n(values, n, gradient + at);
    at += n;
  });
  const auto group = int32_t(groups_[size_t(v)]);
  GranuleMap granules;
  if (clip_.clipnorm > 0)
    granules = {.variable_of = variable_of_.data() + begin / kGranule, .factors = factors_.data()};
  tensor_updates_->run(stream_, *optimizer_.group(group).optimizer, state_of(group), v,
                       tensor_gradient_.view(DType::f32, variable.shape), granules);
}

void HostStep::average(int64_t step) {
  const StepScalars decision;
  const MovingAverage& average = *optimizer_.average();
  for (size_t bucket = 0; bucket < reducer_.buckets(); ++bucket) {
    const auto [begin, end, sum] = reducer_.owned(bucket);
    launch(stream_, AverageParameters{.momentum = average.momentum,
                                      .overwrite_every = average.overwrite_every,
                                      .iteration = &step,
                                      .decision = &decision,
                                      .param = variables_.master_or_parameter(begin, end),
                                      .average = variables_.slot(optimizer_.average_slot(), begin, end)});
    if (average.overwrite_every > 0) variables_.round_masters_into_parameters(stream_, begin, end);
  }
}

void HostStep::keep_within_bounds() {
  const Plan& plan = variables_.plan();
  for (const int32_t v : bounded_) {
    if (groups_[size_t(v)] == kFrozen) continue;
    const PlannedVariable& variable = plan.variables[size_t(v)];
    const GradientReducer::Slice owned = reducer_.owned(size_t(variable.bucket));
    const int64_t begin = std::max(owned.begin, variable.offset);
    const int64_t end = std::min(owned.end, variable.offset + variable.shape.size());
    if (begin >= end) continue;
    launch(stream_,
           KeepWithin{variables_.master_or_parameter(begin, end), *optimizer_.bounds_of(variable.path), &scalars_});
    variables_.round_masters_into_parameters(stream_, begin, end);
  }
}

void HostStep::set_frozen(int32_t variable, bool frozen) {
  groups_[size_t(variable)] =
      frozen ? kFrozen : uint32_t(optimizer_.group_of(variables_.plan().variables[size_t(variable)].path));
  all_alike_ =
      !optimizer_.any_updates_by_tensor() && std::ranges::all_of(groups_, [](uint32_t group) { return group == 0; });
}

void HostStep::take_averages() {
  if (!optimizer_.average()) return;
  reducer_.node_barrier();  // others may still read the parameters of the last step
  for (size_t bucket = 0; bucket < reducer_.buckets(); ++bucket) {
    const auto [begin, end, sum] = reducer_.owned(bucket);
    const View average = variables_.slot(optimizer_.average_slot(), begin, end);
    launch(stream_, Copy{variables_.master_or_parameter(begin, end), average});
    variables_.round_masters_into_parameters(stream_, begin, end);
  }
  reducer_.node_barrier();
}

void HostStep::clear_gradients() {
  for (size_t bucket = 0; bucket < reducer_.buckets(); ++bucket)
    launch(stream_, Fill{reducer_.owned(bucket).sum, 0.0f});
}

}  // namespace

std::unique_ptr<StepEngine> make_host_step(const StepParts& parts) { return std::make_unique<HostStep>(parts); }

}  // namespace lockstep
