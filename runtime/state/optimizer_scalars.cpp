// SPDX-License-Identifier: Apache-2.0
#include "runtime/state/optimizer_scalars.h"

#include <cstring>

#include "kernels/device/transfer.h"

namespace lockstep {

OptimizerScalars::OptimizerScalars(const OptimizerSet& optimizer, const StateMemory& memory, Stream* stream)
    : iteration_(memory.view(memory.plan().at(str(optimizer.name(), "/iteration")))),
      learning_rate_(memory.view(memory.plan().at(str(optimizer.name(), "/learning_rate")))),
      stream_(stream),
      loss_scale_(optimizer.scaling() ? optimizer.scale_scalar() : -1) {}

int64_t OptimizerScalars::iteration() const {
  int64_t value;
  read(iteration_, &value);
  return value;
}

double OptimizerScalars::learning_rate() const {
  double value;
  read(learning_rate_, &value);
  return value;
}

double OptimizerScalars::loss_scale() const {
  double value;
  read({loss_scale_cell(), DType::f64, learning_rate_.device, Shape{}}, &value);
  return value;
}

void OptimizerScalars::set_iteration(int64_t iteration) { write(iteration_, &iteration); }
void OptimizerScalars::set_learning_rate(double rate) { write(learning_rate_, &rate); }

void OptimizerScalars::read(const View& from, void* value) const {
  if (stream_ == nullptr) return void(std::memcpy(value, from.data, size_t(from.bytes())));
  copy(*stream_, View{value, from.dtype, DeviceKind::cpu, from.shape}, from);
  stream_->synchronize();
}

void OptimizerScalars::write(const View& to, const void* value) {
  if (stream_ == nullptr) return void(std::memcpy(to.data, value, size_t(to.bytes())));
  copy(*stream_, to, ConstView{value, to.dtype, DeviceKind::cpu, to.shape});
  stream_->synchronize();
}

}  // namespace lockstep
