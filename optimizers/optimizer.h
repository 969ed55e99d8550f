// SPDX-License-Identifier: Apache-2.0
// The optimizer interface: a rule, its hyper-parameters, the state it wants. An optimizer owns no memory and knows
// neither ranks nor devices nor files: the runtime turns each declared slot into a variable and hands in flat ranges.
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
  float grad_scale = 1;  // the one factor every gradient is multiplied with
  bool skip = false;     // nothing is updated, gradients are cleared all the same
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

  // Brings the values of scalars() to `step`. Once per committed step, before its first update; not on skipped steps.
  virtual void advance(int64_t step, double learning_rate, std::span<double> state) const = 0;

  // One pass over memory: unscale, decay, update, clear the gradient. Weight decay holds for the whole range; ranges
  // excluded from it are given to a twin made with weight_decay 0, whose slots are the same.
  // step: 1 for the first update (the counter after it advanced). param, grad, slots[i]: flat f32 ranges of equal
  // length, any length and any alignment of 4 bytes; the result for an element does not depend on where ranges are cut.
  // state: the values of scalars() after advance().
  virtual void update(Stream& stream, int64_t step, double learning_rate, const StepScalars* scalars, View param,
                      View grad, std::span<const View> slots, std::span<const double> state = {}) const = 0;

  // Bytes that one element's update reads and writes: the formula behind the bandwidth figures.
  int64_t bytes_per_element() const;

 protected:
  // What advance() and update() demand of their arguments; they name the culprit.
  void check_step(int64_t step, double learning_rate, size_t state) const;
  void check_update(int64_t step, double learning_rate, const View& param, const View& grad,
                    std::span<const View> slots, size_t state) const;
};

// Names known to make_optimizer, in the order they are listed to users.
std::vector<std::string_view> optimizer_names();

// `options` are hyper-parameters by name ("learning_rate", "beta_1", ...); what is absent keeps its default.
// Definitions and defaults are those of Keras, options select PyTorch's (docs/optimizers.md); weight_decay is known to
// all. Throws Error(usage) for unknown names (with the nearest known one) and values that are out of range, NaN or
// infinite. A learning rate of 0 is legal, as in Keras; a negative one is not.
std::unique_ptr<Optimizer> make_optimizer(std::string_view name, const std::map<std::string, double>& options = {});

}  // namespace lockstep
