// SPDX-License-Identifier: Apache-2.0
// What happens to gradients once leaves are computed: sums over ranks, one decision of all ranks, one update. Ranks on
// the CPU share the memory of their node (host_step.cpp); ranks with a GPU have their own (device_step.cpp).
#pragma once

#include <functional>
#include <memory>

#include "collectives/device/device_communicator.h"
#include "collectives/gradients/gradient_reducer.h"
#include "optimizers/optimizer_set.h"
#include "optimizers/schedules/schedule.h"
#include "runtime/data/step_input.h"
#include "runtime/state/variable_store.h"
#include "runtime/step/clip.h"

namespace lockstep {

struct StepOptions {
  ClipOptions clip = {};
  const Schedule* schedule = nullptr;    // of the learning rate; null: the rate is the variable's
  DeviceCommunicator* device = nullptr;  // of ranks with GPUs, over the same ranks
  bool graph = false;                    // GPUs: record the step once and launch it as a whole from then on
};

// What a step works on. All references outlive it, and so do optimizers that the set does not own.
struct StepParts {
  Communicator& communicator;
  VariableStore& variables;
  OptimizerSet optimizer;
  ReduceMode mode;
  Stream& stream;
  Pool& pool;
  uint64_t seed;
  StepOptions options;
};

class StepEngine {
 public:
  virtual ~StepEngine() = default;

  // The leaves of this rank, [first_leaf, last_leaf).
  virtual int first_leaf() const = 0;
  virtual int last_leaf() const = 0;

  // The passes of all leaves of this rank, given inputs on the device: each leaf by begin_leaf(), then gradient_ready()
  // for each variable in gradient sync; without_leaves() where the rank has none.
  using Passes = std::function<void(const StepInput&, const ConstView& dropout_key)>;
  virtual View begin_leaf(int leaf) = 0;
  virtual void gradient_ready(size_t bucket) = 0;
  virtual void without_leaves() = 0;
  // [>= 2 leaves] f64 on the device: losses and right answers by leaf of the whole batch.
  virtual View cells() = 0;

  // Collective: runs passes, sums, decides and updates; a GPU is given all of it and may not have done it on return.
  virtual void run(const StepInput& input, const Passes& passes) = 0;
  // What the last step came to; waits for it. Throws Error(numbers) on every rank when a loss was not finite.
  virtual StepReport report() = 0;
  // Whether a variable of the plan, which is in gradient sync, is left as it is from the next step on.
  virtual void set_frozen(int32_t variable, bool frozen) = 0;
  // Collective: parameters become their running averages.
  virtual void take_averages() = 0;
};

// Collective.
std::unique_ptr<StepEngine> make_host_step(const StepParts& parts);
std::unique_ptr<StepEngine> make_device_step(const StepParts& parts);

// Error(numbers): the loss of a step is none.
[[noreturn]] void fail_loss(float loss, int64_t step, double learning_rate);

// The buckets of a plan as reducers take them.
std::vector<GradientBucket> reducer_buckets(const Plan& plan);

}  // namespace lockstep
