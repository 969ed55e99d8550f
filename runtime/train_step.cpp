// SPDX-License-Identifier: Apache-2.0
#include "runtime/train_step.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <utility>

#include "collectives/finite.h"
#include "collectives/tree_sum.h"
#include "kernels/clamp.h"
#include "kernels/pointwise.h"
#include "kernels/reduction.h"
#include "runtime/bucket_layout.h"

namespace lockstep {
namespace {

std::vector<GradientBucket> reducer_buckets(const Plan& plan) {
  std::vector<GradientBucket> buckets;
  for (const PlannedBucket& planned : plan.buckets) {
    std::string names;
    for (const int32_t v : planned.variables) names += (names.empty() ? "" : ", ") + plan.variables[size_t(v)].path;
    buckets.push_back({planned.begin, planned.end, int(planned.variables.size()), std::move(names)});
  }
  return buckets;
}

class Stopwatch {
 public:
  double lap() {
    const auto now = std::chrono::steady_clock::now();
    return std::chrono::duration<double>(now - std::exchange(last_, now)).count();
  }

 private:
  std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

// Sum along the canonical tree (collectives/tree_sum.h).
float tree_sum_values(std::span<const float> leaves) {
  if (leaves.size() == 1) return leaves[0];
  const size_t left = size_t(left_leaves(int(leaves.size())));
  return tree_sum_values(leaves.first(left)) + tree_sum_values(leaves.subspan(left));
}

// Sum of a leaf's per-sample values, in the order of the reduction kernel.
double leaf_sum(Context& context, const Tensor& values) {
  Tensor total = context.empty({});
  context.launch(Sum{.out = total, .in = values});
  context.stream().synchronize();
  return data<float>(ConstView(total))[0];
}

}  // namespace

TrainStep::TrainStep(Communicator& communicator, VariableStore& variables, const Optimizer& optimizer, Forward forward,
                     ReduceMode mode, Stream& stream, Pool& pool, uint64_t seed, const ClipOptions& clip)
    : communicator_(communicator),
      variables_(variables),
      optimizer_(optimizer),
      forward_(std::move(forward)),
      stream_(stream),
      pool_(pool),
      seed_(seed),
      reducer_(communicator, reducer_buckets(variables.plan()), variables.plan().arena_elements, mode,
               variables.plan().settings.virtual_ranks),
      leaves_(mode == ReduceMode::tree ? variables.plan().settings.virtual_ranks : communicator.size()),
      results_(size_t(verdict_cells(leaves_, communicator.size()))),
      clip_(clip),
      factors_(variables.plan().variables.size(), 1.0f),
      slots_(optimizer.slots().size()) {
  check_clip_options(clip);
  if (clip.by_norm()) squares_.emplace(communicator, variables.plan(), pool);
  pool_.enter(Purpose::gradients, reducer_.shared_bytes());
}

TrainStep::~TrainStep() { pool_.enter(Purpose::gradients, -reducer_.shared_bytes()); }

StepReport TrainStep::run(const StepInput& input) {
  StepReport report;
  Stopwatch watch;
  std::fill(results_.begin(), results_.end(), 0.0);
  for (const LeafInput& leaf : input.leaves) run_leaf(input, leaf);
  if (input.leaves.empty()) reducer_.no_leaves();
  report.compute_seconds += watch.lap();

  reducer_.wait(stream_);
  exchange_results(report);
  report.loss /= float(input.global_count);
  report.communication_seconds += watch.lap();

  // Both verdicts are over all ranks, so all take the same way from here.
  check_loss(input, report.loss);
  if (report.skipped)
    clear_gradients();
  else
    update();
  report.compute_seconds += watch.lap();
  reducer_.node_barrier();
  report.communication_seconds += watch.lap();
  return report;
}

void TrainStep::run_leaf(const StepInput& input, const LeafInput& leaf) {
  const View arena = reducer_.begin_leaf(leaf.leaf);
  const Plan& plan = variables_.plan();
  const auto ready = [&](int32_t variable) {
    reducer_.gradient_ready(size_t(plan.variables[size_t(variable)].bucket), stream_);
  };
  const int64_t samples = leaf.sample_ids.size();
  if (samples == 0) {  // a partial batch may leave leaves without samples
    launch(stream_, Fill{arena, 0.0f});
    for (size_t v = 0; v < variables_.values().size(); ++v)
      if (plan.variables[v].in_gradient_sync) ready(int32_t(v));
    return;
  }
  tape_.clear();
  watch_variables(arena);
  Context context(stream_, pool_, &tape_);
  context.set_values(variables_.values());
  context.random() = {.seed = seed_, .step = input.step, .sample_ids = leaf.sample_ids};
  const SampleResults results = forward_(context, leaf);
  results_[size_t(2 * leaf.leaf)] = leaf_sum(context, results.loss);
  results_[size_t(2 * leaf.leaf + 1)] = leaf_sum(context, results.correct);
  // Every sample weighs one over the global batch, so that the sum over leaves is the gradient of the mean loss
  // whatever the sizes of the leaves.
  Tensor seed = context.empty_like(results.loss);
  context.launch(Fill{seed, 1 / float(input.global_count)});
  tape_.backward(context, results.loss, seed, ready);
}

void TrainStep::watch_variables(const View& arena) {
  const Plan& plan = variables_.plan();
  std::span<Tensor> values = variables_.values();
  for (size_t v = 0; v < values.size(); ++v) {
    const PlannedVariable& variable = plan.variables[v];
    if (!variable.on_tape) continue;
    View destination = slice(arena, variable.offset, variable.offset + variable.shape.size());
    destination.shape = variable.shape;
    tape_.watch(values[v], int32_t(v), destination, variable.path);
  }
}

// The first variable of the plan with a sum that is not finite among those this rank added up, or -1. Sums are looked
// at a second time only after adding them has shown that there is one.
int32_t TrainStep::first_not_finite() const {
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

void TrainStep::exchange_results(StepReport& report) {
  const auto verdicts = std::span(results_).subspan(size_t(2 * leaves_));
  verdicts[size_t(communicator_.rank())] = double(1 + first_not_finite());
  // Each cell has one rank that writes it and zeros elsewhere: the sum is exact in any order.
  const View cells{results_.data(), DType::f64, DeviceKind::cpu, Shape{int64_t(results_.size())}};
  communicator_.all_reduce(cells, ReduceOp::sum, stream_).wait(stream_);
  std::vector<float> losses;
  double correct = 0;
  for (int leaf = 0; leaf < leaves_; ++leaf) {
    losses.push_back(float(results_[size_t(2 * leaf)]));
    correct += results_[size_t(2 * leaf + 1)];
  }
  report.loss = tree_sum_values(losses);
  report.correct = int64_t(correct);
  double first = 0;
  for (const double verdict : verdicts)
    if (verdict > 0 && (first == 0 || verdict < first)) first = verdict;
  report.skipped = first > 0;
  if (report.skipped) report.not_finite = variables_.plan().variables[size_t(first) - 1].path;
}

void TrainStep::check_loss(const StepInput& input, float loss) const {
  check(std::isfinite(loss), ErrorCode::numbers, [&] {
    return str("the loss is ", loss, " at step ", input.step, ", so training stopped before the update; lower the ",
               "learning rate (now ", variables_.learning_rate(), ") or look at the data of this step");
  });
}

void TrainStep::update() {
  const int64_t step = variables_.iteration() + 1;
  optimizer_.advance(step, variables_.learning_rate(), variables_.optimizer_state());
  if (squares_) measure_norms();
  for (size_t bucket = 0; bucket < reducer_.buckets(); ++bucket) update_bucket(bucket, step);
  // Once per committed step: not per leaf, bucket or rank.
  variables_.iteration() = step;
}

void TrainStep::measure_norms() {
  const std::span<const double> squares = squares_->run(reducer_, stream_);
  double total = 0;
  for (const double sum : squares) total += sum;
  if (clip_.global_clipnorm > 0) scalars_.grad_scale = clip_factor(std::sqrt(total), clip_.global_clipnorm);
  if (clip_.clipnorm > 0)
    for (size_t v = 0; v < squares.size(); ++v) factors_[v] = clip_factor(std::sqrt(squares[v]), clip_.clipnorm);
}

void TrainStep::update_bucket(size_t bucket, int64_t step) {
  const GradientReducer::Slice owned = reducer_.owned(bucket);
  if (owned.begin == owned.end) return;
  if (clip_.clipvalue > 0) launch(stream_, Clamp{owned.sum, float(clip_.clipvalue)});
  if (clip_.clipnorm == 0) return update_range(owned, owned.begin, owned.end, step);
  // Each variable has a factor of its own; what lies between them is padding.
  const Plan& plan = variables_.plan();
  for (const int32_t v : plan.buckets[bucket].variables) {
    const PlannedVariable& variable = plan.variables[size_t(v)];
    const int64_t begin = std::max(owned.begin, variable.offset);
    const int64_t end = std::min(owned.end, variable.offset + variable.shape.size());
    scalars_.grad_scale = factors_[size_t(v)];
    if (begin < end) update_range(owned, begin, end, step);
  }
}

void TrainStep::update_range(const GradientReducer::Slice& owned, int64_t begin, int64_t end, int64_t step) {
  for (size_t s = 0; s < slots_.size(); ++s) slots_[s] = variables_.slot(int32_t(s), begin, end);
  optimizer_.update(stream_, step, variables_.learning_rate(), &scalars_, variables_.parameters(begin, end),
                    slice(owned.sum, begin - owned.begin, end - owned.begin), slots_, variables_.optimizer_state());
}

void TrainStep::clear_gradients() {
  for (size_t bucket = 0; bucket < reducer_.buckets(); ++bucket)
    launch(stream_, Fill{reducer_.owned(bucket).sum, 0.0f});
}

}  // namespace lockstep
