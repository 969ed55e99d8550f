// SPDX-License-Identifier: Apache-2.0
#include "runtime/step/train_step.h"

#include <utility>

#include "kernels/pointwise.h"
#include "runtime/step/forward_backward.h"

namespace lockstep {

std::vector<GradientBucket> reducer_buckets(const Plan& plan) {
  std::vector<GradientBucket> buckets;
  for (const PlannedBucket& planned : plan.buckets) {
    std::string names;
    for (const int32_t v : planned.variables) names += (names.empty() ? "" : ", ") + plan.variables[size_t(v)].path;
    buckets.push_back({planned.begin, planned.end, int(planned.variables.size()), std::move(names)});
  }
  return buckets;
}

void fail_loss(float loss, int64_t step, double learning_rate) {
  fail(ErrorCode::numbers,
       str("the loss is ", loss, " at step ", step, ", so training stopped before the update; lower the ",
           "learning rate (now ", learning_rate, ") or look at the data of this step"));
}

TrainStep::TrainStep(Communicator& communicator, VariableStore& variables, const OptimizerSet& optimizer,
                     Forward forward, ReduceMode mode, Stream& stream, Pool& pool, uint64_t seed,
                     const StepOptions& options)
    : variables_(variables), forward_(std::move(forward)), stream_(stream), pool_(pool) {
  check_clip_options(options.clip);
  const StepParts parts{communicator, variables, optimizer, mode, stream, pool, seed, options};
  engine_ = stream.device().kind == DeviceKind::cpu ? make_host_step(parts) : make_device_step(parts);
}

void TrainStep::queue(const StepInput& input) {
  engine_->run(input, [this](const StepInput& on_device, const ConstView& dropout_key) {
    for (const LeafInput& leaf : on_device.leaves) run_leaf(leaf, dropout_key, on_device.global_count);
    if (on_device.leaves.empty()) engine_->without_leaves();
  });
}

void TrainStep::set_frozen(std::string_view path, bool frozen) {
  const Plan& plan = variables_.plan();
  const PlannedVariable& variable = plan.at(path);
  check(variable.in_gradient_sync, ErrorCode::plan, [&] {
    return str("variable ", path, " is not trained (role ", to_string(variable.role),
               "), so its updates cannot be stopped or taken up again");
  });
  engine_->set_frozen(int32_t(&variable - plan.variables.data()), frozen);
}

void TrainStep::ready(int32_t variable) {
  engine_->gradient_ready(size_t(variables_.plan().variables[size_t(variable)].bucket));
}

void TrainStep::run_leaf(const LeafInput& leaf, const ConstView& dropout_key, int64_t global_count) {
  const View arena = engine_->begin_leaf(leaf.leaf);
  if (leaf.sample_ids.size() == 0) {  // a partial batch may leave leaves without samples
    launch(stream_, Fill{arena, 0.0f});
    for (size_t v = 0; v < variables_.values().size(); ++v)
      if (variables_.plan().variables[v].in_gradient_sync) ready(int32_t(v));
    return;
  }
  const std::vector<LeafInput> parts = micro_batches(leaf, variables_.plan().settings.accumulation);
  for (size_t p = 0; p < parts.size(); ++p) {
    tape_.clear();
    watch_variables(arena, p == 0 ? Tape::Destination::fresh : Tape::Destination::adds_up);
    Context context(stream_, pool_, &tape_);
    context.set_values(variables_.values());
    context.random() = {.key = dropout_key, .sample_ids = parts[p].sample_ids};
    const bool last = p + 1 == parts.size();
    // Every sample weighs one over the global batch, so that the sum over leaves is the gradient of the mean loss
    // whatever the sizes of the leaves.
    forward_backward(
        context, forward_, parts[p], engine_->cells(), 1 / float(global_count),
        [this, last](int32_t variable) {
          if (last) ready(variable);
        },
        variables_.loss_scale_cell());
  }
}

void TrainStep::watch_variables(const View& arena, Tape::Destination kind) {
  const Plan& plan = variables_.plan();
  std::span<Tensor> values = variables_.values();
  for (size_t v = 0; v < values.size(); ++v) {
    const PlannedVariable& variable = plan.variables[v];
    if (!variable.on_tape) continue;
    View destination = slice(arena, variable.offset, variable.offset + variable.shape.size());
    destination.shape = variable.shape;
    tape_.watch(values[v], int32_t(v), destination, variable.path, kind);
  }
}

}  // namespace lockstep
