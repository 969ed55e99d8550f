// SPDX-License-Identifier: Apache-2.0
// The scalars of the optimizer: the counter of committed steps, the learning rate, and what rules and the loss scale
// keep. Every rank has a replica of them. Kernels advance the counter (PrepareRow::advance()); this is how the host
// and the step's tables reach it.
#pragma once

#include <cstdint>

#include "kernels/device/device.h"
#include "optimizers/optimizer_set.h"
#include "runtime/state/state_memory.h"

namespace lockstep {

class OptimizerScalars {
 public:
  // The scalars that `optimizer` declared, in `memory`. `stream` computes where they lie: null on the CPU. Reading and
  // writing a value waits for it.
  OptimizerScalars(const OptimizerSet& optimizer, const StateMemory& memory, Stream* stream);

  int64_t iteration() const;
  double learning_rate() const;
  bool has_loss_scale() const { return loss_scale_ >= 0; }
  double loss_scale() const;  // where there is one
  void set_iteration(int64_t iteration);
  void set_learning_rate(double rate);

  // The same in memory of the device, for kernels. Values of Optimizer::scalars() follow one another in their order,
  // and they follow the learning rate, eight bytes each.
  int64_t* iteration_cell() const { return static_cast<int64_t*>(iteration_.data); }
  double* learning_rate_cell() const { return static_cast<double*>(learning_rate_.data); }
  double* cells() const { return learning_rate_cell() + 1; }
  // The scale of the loss and the count of steps since it changed, or null.
  double* loss_scale_cell() const { return loss_scale_ < 0 ? nullptr : cells() + loss_scale_; }

 private:
  void read(const View& from, void* value) const;
  void write(const View& to, const void* value);

  View iteration_, learning_rate_;
  Stream* stream_;
  int32_t loss_scale_;  // index into cells(), or -1
};

}  // namespace lockstep
