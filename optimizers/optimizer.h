// SPDX-License-Identifier: Apache-2.0
// The optimizer interface: a rule, its hyper-parameters, the state it wants. An optimizer owns no memory and knows
// neither ranks nor devices nor files: the runtime turns each declared slot into a variable and hands in flat ranges.
#pragma once

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

  // One pass over memory: unscale, decay, update, clear the gradient. Weight decay holds for the whole range; ranges
  // excluded from it are given to a twin made with weight_decay 0, whose slots are the same.
  // step: 1 for the first update (the counter after it advanced). param, grad, slots[i]: flat f32 ranges of equal
  // length, any length and any alignment of 4 bytes; the result for an element does not depend on where ranges are cut.
  virtual void update(Stream& stream, int64_t step, double learning_rate, const StepScalars* scalars, View param,
                      View grad, std::span<const View> slots) const = 0;

  // Bytes that one element's update reads and writes: the formula behind the bandwidth figures.
  int64_t bytes_per_element() const;

 protected:
  // What update() demands of its arguments; names the culprit.
  void check_update(int64_t step, double learning_rate, const View& param, const View& grad,
                    std::span<const View> slots) const;
};

// Names known to make_optimizer, in the order they are listed to users.
std::vector<std::string_view> optimizer_names();

// `options` are hyper-parameters by name ("learning_rate", "beta_1", ...); what is absent keeps its default.
// Definitions and defaults are those of Keras; weight_decay is decoupled and known to all. Throws Error(usage) for
// unknown names (with the nearest known one) and values that are out of range, NaN or infinite. A learning rate of 0
// is legal, as in Keras; a negative one is not.
std::unique_ptr<Optimizer> make_optimizer(std::string_view name, const std::map<std::string, double>& options = {});

}  // namespace lockstep
