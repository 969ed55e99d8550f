// SPDX-License-Identifier: Apache-2.0
// The optimizer interface: a rule, its hyper-parameters, the state it wants. An optimizer owns no memory and knows
// neither ranks nor devices nor files: the runtime turns each declared slot into a variable and hands in flat ranges or
// whole tensors of parameters, gradients and slots.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/device/device.h"
#include "kernels/device/view.h"

namespace lockstep {

// State kept per parameter element. Declared here, allocated by the runtime.
struct Slot {
  std::string_view name;
  DType dtype = DType::f32;
  float initial = 0;
  bool starts_as_parameter = false;  // then a copy of the parameter, once that has its first value, and not `initial`
};

// State kept once per optimizer, in double. Declared here; a named variable of the runtime like the iteration counter.
struct ScalarState {
  std::string_view name;
  double initial = 0;
};

// What the whole step decides about gradients. Lives in memory of the device; the host never waits for it.
struct StepScalars {
  float grad_scale = 1;       // the one factor every gradient is multiplied with
  float clip_value = 0;       // above 0: gradients are brought into [-clip_value, clip_value] first
  bool skip = false;          // nothing is updated, gradients are cleared all the same
  uint64_t rounding_key = 0;  // of the step, where parameters are rounded stochastically; prepare() computes it
};

struct StepVerdict;  // optimizers/step_verdict.h

// The optimizer's part of a step where the counter lives on the device. All of it is memory of the stream's device.
struct StepState {
  int64_t* iteration;     // committed steps
  double* learning_rate;  // of the step
  double* scalars;        // values of Optimizer::scalars(), in their order
  StepScalars* decision;
  void* constants;    // Optimizer::constants_bytes(), aligned to 16 bytes
  uint64_t seed = 0;  // of what is rounded stochastically
};

// The rate of the step that begins at counter i is values[i - first], for i in [first, first + count); without values
// it stays as it is. What is `own` (not negative) holds for one optimizer of several, and so does the factor.
struct LearningRates {
  const double* values = nullptr;
  int64_t first = 0, count = 0;
  double factor = 1;
  double own = -1;
  bool counted = false;  // another optimizer has advanced the counter and set the rate
};

// The group of a variable that no optimizer updates: for now, or at all.
inline constexpr uint32_t kNoGroup = ~0u;

// What is known by variable. Granule g of a range, the elements [32 g, 32 g + 32), belongs to variable_of[g].
struct GranuleMap {
  const uint32_t* variable_of = nullptr;
  const float* factors = nullptr;  // by variable, what its gradient is multiplied with; null: nothing
  // By variable. Null: all variables are updated; otherwise those with groups[variable] == group, and then there are
  // factors.
  const uint32_t* groups = nullptr;
  uint32_t group = 0;
  // For parameters that are rounded stochastically: granule g is number first + g + numbers[variable_of[g]]
  // (kernels/stochastic_rounding.h).
  const int64_t* numbers = nullptr;
  int64_t first = 0;
};

// What one update works on, in memory of the stream's device: flat ranges of equal length, or one whole contiguous
// tensor, all of it in its shape, where the optimizer updates_by_tensor().
struct UpdateOperands {
  View param;  // f32, or bf16, which is rounded stochastically and wants granules with numbers
  View grad;   // f32
  std::span<const View> slots;
  View working_copy = {};  // bf16 or f16: the new parameter, rounded to nearest, which wants granules with factors
  GranuleMap granules = {};
  std::byte* scratch = nullptr;  // Optimizer::scratch_bytes() of the tensor's shape
};

// A name and its value, as shown to users and entered into the configuration hash.
struct Hyperparameter {
  std::string_view name;
  double value;
};

class Optimizer {
 public:
  virtual ~Optimizer() = default;
  virtual std::string_view name() const = 0;
  virtual std::span<const Slot> slots() const = 0;
  virtual std::vector<Hyperparameter> hyperparameters() const = 0;
  virtual double learning_rate() const = 0;
  virtual std::span<const ScalarState> scalars() const = 0;

  // Whether one element's step depends on its whole tensor. Then update() is given one tensor at a time, in f32,
  // without working copy and groups, and its bits depend on values and shape alone.
  virtual bool updates_by_tensor() const = 0;
  // Bytes, aligned to 256, that update() wants for a tensor of this shape: a function of the shape alone, and 0 for
  // optimizers that update ranges.
  virtual int64_t scratch_bytes(const Shape& shape) const = 0;

  // A step takes no number from the host (optimizers/update_kernels.h). prepare(): decides by `verdict`, or leaves the
  // decision as it is where that is null; unless the step is skipped, it advances counter and scalars and computes
  // constants. update(): unscales, clips, decays, updates and clears the gradient. Of ranges that is one pass over
  // memory, and the result for an element does not depend on where they are cut: a step is two launches for any number
  // of tensors. Weight decay holds for all of them; variables excluded from it are given to a twin made with
  // weight_decay 0, whose slots are the same.
  virtual int64_t constants_bytes() const = 0;
  virtual void prepare(Stream& stream, const StepState& state, const LearningRates& rates,
                       const StepVerdict* verdict) const = 0;
  virtual void update(Stream& stream, const StepState& state, const UpdateOperands& operands) const = 0;

  // Bytes that one element's update reads and writes: the formula behind the bandwidth figures.
  int64_t bytes_per_element() const;

 protected:
  // What prepare() and update() demand of their arguments; they name the culprit. Numbers are looked at on the CPU
  // only.
  void check_prepare(const Stream& stream, const StepState& state, const LearningRates& rates) const;
  void check_update(const UpdateOperands& operands) const;
};

// Names known to make_optimizer, in the order they are listed to users.
std::vector<std::string_view> optimizer_names();

// `options` are hyper-parameters by name ("learning_rate", "beta_1", ...); what is absent keeps its default.
// Definitions and defaults are those of Keras, options select PyTorch's (docs/optimizers.md); weight_decay is known to
// all. Throws Error(usage) for unknown names (with the nearest known one) and values that are out of range, NaN or
// infinite. A learning rate of 0 is legal, as in Keras; a negative one is not.
std::unique_ptr<Optimizer> make_optimizer(std::string_view name, const std::map<std::string, double>& options = {});

// For variables that take their gradients as values (optimizers/rules/overwrite.h): nothing to train a model with, so
// it is no name of the list.
std::unique_ptr<Optimizer> make_overwrite();

}  // namespace lockstep
