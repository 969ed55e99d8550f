// SPDX-License-Identifier: Apache-2.0
// The optimizer interface: a rule, its hyper-parameters and the state it wants. An optimizer owns no memory and knows
// neither ranks nor devices nor files. The runtime turns each declared slot into a variable and hands in parameters,
// gradients and slots as flat ranges or whole tensors.
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
  bool starts_as_parameter = false;  // as a copy, once the parameter has its first value, not `initial`
};

// State kept once per optimizer, in double. Declared here; the runtime names it as it does the iteration counter.
struct ScalarState {
  std::string_view name;
  double initial = 0;
};

// What a step decides about all gradients. It lives in memory of the device; the host never waits for it.
struct StepScalars {
  float grad_scale = 1;       // the one factor that every gradient is multiplied by
  float clip_value = 0;       // if above 0, gradients are first brought into [-clip_value, clip_value]
  bool skip = false;          // nothing is updated, but gradients are cleared
  uint64_t rounding_key = 0;  // key of the step for stochastic rounding of parameters; prepare() computes it
};

struct StepVerdict;  // optimizers/step_verdict.h

// The optimizer's part of a step whose counter lives on the device. All pointers are to memory of that device.
struct StepState {
  int64_t* iteration;     // number of committed steps
  double* learning_rate;  // rate of the step
  double* scalars;        // values of Optimizer::scalars(), in their order
  StepScalars* decision;
  void* constants;    // Optimizer::constants_bytes(), aligned to 16 bytes
  uint64_t seed = 0;  // seed of stochastic rounding
};

// The rate of the step that begins at counter i is values[i - first], for i in [first, first + count); without values
// it stays as it is. `own` (if not negative) and the factor hold for one optimizer of several.
struct LearningRates {
  const double* values = nullptr;
  int64_t first = 0, count = 0;
  double factor = 1;
  double own = -1;
  bool counted = false;  // another optimizer has advanced the counter and set the rate
};

// The group of a variable that no optimizer updates, for now or at all.
inline constexpr uint32_t kNoGroup = ~0u;

// What is known by variable. Granule g of a range, the elements [32 g, 32 g + 32), belongs to variable_of[g].
struct GranuleMap {
  const uint32_t* variable_of = nullptr;
  const float* factors = nullptr;  // one per variable: the factor of its gradient; null means none
  // One per variable. Null means that all variables are updated; otherwise those with groups[variable] == group, and
  // then there are factors.
  const uint32_t* groups = nullptr;
  uint32_t group = 0;
  // For stochastic rounding of parameters, granule g is number first + g + numbers[variable_of[g]]
  // (kernels/stochastic_rounding.h).
  const int64_t* numbers = nullptr;
  int64_t first = 0;
};

// The operands of one update, in memory of the stream's device: flat ranges of equal length, or one whole contiguous
// tensor in its shape, if the optimizer updates_by_tensor().
struct UpdateOperands {
  View param;  // f32, or bf16, which is rounded stochastically and wants granules with numbers
  View grad;   // f32
  std::span<const View> slots;
  View working_copy = {};  // bf16 or f16: the new parameter rounded to nearest; wants granules with factors
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

  // Whether one element's step depends on its whole tensor. Then update() takes one tensor at a time, in f32, without
  // working copy and groups, and its bits depend on values and shape alone.
  virtual bool updates_by_tensor() const = 0;
  // Bytes, aligned to 256, that update() wants for a tensor of this shape. They depend on the shape alone, and are 0
  // for optimizers that update ranges.
  virtual int64_t scratch_bytes(const Shape& shape) const = 0;

  // A step takes no number from the host (optimizers/update_kernels.h). prepare() decides by `verdict`, or leaves the
  // decision as it is if that is null; unless the step is skipped, it advances counter and scalars and computes
  // constants. update() unscales, clips, decays, updates and clears the gradient. For ranges that is one pass over
  // memory, and an element's result does not depend on where they are cut: a step is two launches for any number of
  // tensors. Weight decay applies to all of them; variables excluded from it go to a twin made with weight_decay 0,
  // whose slots are the same.
  virtual int64_t constants_bytes() const = 0;
  virtual void prepare(Stream& stream, const StepState& state, const LearningRates& rates,
                       const StepVerdict* verdict) const = 0;
  virtual void update(Stream& stream, const StepState& state, const UpdateOperands& operands) const = 0;

  // Bytes that one element's update reads and writes, on which the bandwidth figures are based.
  int64_t bytes_per_element() const;

 protected:
  // Checks what prepare() and update() demand of their arguments, and names the culprit. Numbers are looked at on the
  // CPU only.
  void check_prepare(const Stream& stream, const StepState& state, const LearningRates& rates) const;
  void check_update(const UpdateOperands& operands) const;
};

// Names known to make_optimizer, in the order in which users see them.
std::vector<std::string_view> optimizer_names();

// `options` are hyper-parameters by name ("learning_rate", "beta_1", ...); absent ones keep their default. Definitions
// and defaults are those of Keras; options select PyTorch's (docs/optimizers.md). All know weight_decay. Throws
// Error(usage) for unknown names (with the nearest known one) and values that are out of range, NaN or infinite. A
// learning rate of 0 is legal, as in Keras; a negative one is not.
std::unique_ptr<Optimizer> make_optimizer(std::string_view name, const std::map<std::string, double>& options = {});

// For variables that take their gradients as values (optimizers/rules/overwrite.h). It trains no model, so the list
// does not name it.
std::unique_ptr<Optimizer> make_overwrite();

}  // namespace lockstep
