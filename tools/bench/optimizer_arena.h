// SPDX-License-Identifier: Apache-2.0
// The operands of one optimizer's step on a GPU, for benchmarks: parameters, gradients and slots as flat arrays, and
// the step's own state, filled with ordinary numbers.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/device/memory.h"
#include "optimizers/optimizer.h"
#include "runtime/variables/precision.h"
#include "tools/bench/device/device_timing.h"

namespace lockstep {

// That many tensors of one size, side by side.
struct TensorSizes {
  int64_t tensors = 1;
  int64_t elements = 0;
};

class OptimizerArena {
 public:
  // Each of several tensors has its own gradient factor, as when clipped by its own norm; their size is then a multiple
  // of 32, as when they are kept in a narrow dtype. `optimizer` and `stream` must outlive the arena. Error(device) when
  // memory runs out.
  OptimizerArena(const Optimizer& optimizer, const TensorSizes& sizes, Stream& stream, const Precision& precision = {});

  // What of a step is done: constants and update, or first the squares of gradients as well, whose sums show numbers
  // that are not finite.
  enum class Phase : uint8_t { update, whole };
  // The launches of a step. Gradients are filled anew ahead of each sample, because an update clears them.
  DeviceCall step(Phase phase = Phase::update);

 private:
  View array(const Buffer& buffer) const { return buffer.view(DType::f32, Shape{elements_}); }
  Buffer filled(float low, float high);
  void add_squares();
  View narrow_view() const { return narrow_.view(precision_.weights, Shape{elements_}); }
  StepState state() const;
  GranuleMap granule_map() const;

  const Optimizer& optimizer_;
  Precision precision_;
  Stream& stream_;
  Pool pool_;
  int64_t elements_;
  Buffer param_, grad_;
  std::vector<Buffer> slots_;
  Buffer iteration_, learning_rate_, scalars_, decision_, constants_;
  Buffer narrow_;                           // the parameter, or a copy of it
  Buffer variable_of_, factors_, numbers_;  // for several tensors, and narrow ones
  Buffer begins_, ends_, chunks_, first_chunk_, squares_;
};

}  // namespace lockstep
