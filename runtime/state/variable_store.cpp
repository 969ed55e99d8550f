// SPDX-License-Identifier: Apache-2.0
#include "runtime/state/variable_store.h"

#include <cstring>

#include "runtime/plan/planner.h"
#include "runtime/state/first_values.h"

namespace lockstep {

HostValue::HostValue(const ConstView& view, Stream& stream) : bytes_(size_t(view.bytes())) {
  view_ = {bytes_.data(), view.dtype, DeviceKind::cpu, view.shape};
  copy(stream, {bytes_.data(), view.dtype, DeviceKind::cpu, view.shape}, view);
  stream.synchronize();
}

VariableStore::VariableStore(const Plan& plan, const VariableTable& declarations, const OptimizerSet& optimizer,
                             Communicator& communicator, Pool& pool, uint64_t seed, Stream* stream)
    : pool_(pool), stream_(stream), holds_shared_copy_(communicator.place().local_rank == 0), memory_(plan) {
  check_runnable(plan, pool.device().kind);
  check(on_host() == (pool.device().kind == DeviceKind::cpu), ErrorCode::internal,
        "a variable store on a GPU needs the stream that computes there, and one on the CPU has none");
  memory_ = memory_.at(on_host() ? allocate_on_host(communicator) : allocate_on_device());
  scalars_.emplace(optimizer, memory_, stream);
  fill_all(communicator, [&](const StateMemory& memory) { write_first_values(memory, declarations, optimizer, seed); });
  for (size_t i = 0; i < declarations.declarations().size(); ++i)
    values_.push_back(Tensor::borrow(memory_.view(plan.variables[i])));
}

VariableStore::~VariableStore() {
  if (on_host()) enter_into_ledger(-1);  // buffers of a GPU leave the ledger by themselves
}

StateSections VariableStore::allocate_on_host(Communicator& communicator) {
  const int64_t node_copy = memory_.parameter_bytes() + memory_.slot_bytes();
  shared_ = communicator.allocate_shared(holds_shared_copy_ ? node_copy : 0);
  local_.resize(size_t(plan().local_bytes / 8));
  enter_into_ledger(1);
  auto* base = static_cast<char*>(shared_->segment(0));
  return {.parameters = base,
          .slots = base + memory_.parameter_bytes(),
          .local = reinterpret_cast<char*>(local_.data()),
          .device = DeviceKind::cpu};
}

// One rank of a node enters the copy that its ranks share.
void VariableStore::enter_into_ledger(int sign) {
  if (holds_shared_copy_) {
    pool_.enter(Purpose::parameters, sign * memory_.parameter_bytes());
    pool_.enter(Purpose::slots, sign * memory_.slot_bytes());
  }
  pool_.enter(Purpose::scalars, sign * plan().local_bytes);
}

StateSections VariableStore::allocate_on_device() {
  device_parameters_ = Buffer(pool_, memory_.parameter_bytes(), Purpose::parameters);
  device_slots_ = Buffer(pool_, memory_.slot_bytes(), Purpose::slots);
  device_local_ = Buffer(pool_, plan().local_bytes, Purpose::scalars);
  return {.parameters = static_cast<char*>(device_parameters_.data()),
          .slots = static_cast<char*>(device_slots_.data()),
          .local = static_cast<char*>(device_local_.data()),
          .device = pool_.device().kind};
}

HostValue VariableStore::host(const PlannedVariable& variable) const {
  return on_host() ? HostValue(memory_.view(variable)) : HostValue(memory_.view(variable), *stream_);
}

void VariableStore::copy_to_host(const PlannedVariable& variable, int64_t begin, int64_t end, void* destination) const {
  const View view = memory_.view(variable);
  const int64_t element = size_of(view.dtype), bytes = (end - begin) * element;
  const char* from = static_cast<const char*>(view.data) + begin * element;
  if (on_host())
    std::memcpy(destination, from, size_t(bytes));
  else
    copy(*stream_, destination, from, bytes);
}

void VariableStore::await_copies() const {
  if (!on_host()) stream_->synchronize();
}

void VariableStore::fill_together(Communicator& communicator, const FillMemory& fill) {
  communicator.barrier();  // nobody still reads the old values
  if (on_host()) {
    fill(memory_);
  } else {
    std::vector<int64_t> memory;
    const StateSections image = image_in(memory);
    fill(memory_.at(image));
    upload(image);
  }
  communicator.barrier();
}

void VariableStore::fill_all(Communicator& communicator, const FillMemory& fill) {
  if (!on_host()) return broadcast_to_device(communicator, fill);
  if (communicator.rank() == 0) fill(memory_);
  broadcast_on_host(communicator);
}

void VariableStore::fill(Communicator& communicator, const Fill& fill) {
  communicator.barrier();  // nobody still reads the old values
  fill_all(communicator, [&](const StateMemory& memory) {
    for (const PlannedVariable& variable : plan().variables) fill(variable, memory.view(variable));
  });
}

void VariableStore::broadcast_on_host(Communicator& communicator) {
  Stream stream = Stream::cpu();
  // The window is one per node: the first rank of each node receives for all of it.
  const std::unique_ptr<Communicator> leaders = communicator.split(holds_shared_copy_ ? 0 : 1, communicator.rank());
  const int64_t elements = (memory_.parameter_bytes() + memory_.slot_bytes()) / size_of(DType::f32);
  if (holds_shared_copy_)
    leaders->broadcast(View{memory_.sections().parameters, DType::f32, DeviceKind::cpu, Shape{elements}}, 0, stream)
        .wait(stream);
  const View cells{local_.data(), DType::i64, DeviceKind::cpu, Shape{int64_t(local_.size())}};
  communicator.broadcast(cells, 0, stream).wait(stream);
  communicator.barrier();
}

// It goes through memory of the host: the same bytes as on CPU ranks, whatever carries gradients later.
void VariableStore::broadcast_to_device(Communicator& communicator, const FillMemory& fill) {
  Stream host = Stream::cpu();
  std::vector<int64_t> memory;
  const StateSections image = image_in(memory);
  if (communicator.rank() == 0) fill(memory_.at(image));
  communicator.broadcast(View{memory.data(), DType::i64, DeviceKind::cpu, Shape{int64_t(memory.size())}}, 0, host)
      .wait(host);
  upload(image);
}

// Zeros, laid out as the memory of the device is.
StateSections VariableStore::image_in(std::vector<int64_t>& memory) const {
  memory.assign(size_t((memory_.parameter_bytes() + memory_.slot_bytes() + plan().local_bytes) / 8), 0);
  auto* base = reinterpret_cast<char*>(memory.data());
  return {.parameters = base,
          .slots = base + memory_.parameter_bytes(),
          .local = base + memory_.parameter_bytes() + memory_.slot_bytes(),
          .device = DeviceKind::cpu};
}

void VariableStore::upload(const StateSections& image) {
  const auto upload = [&](const Buffer& to, const char* from) {
    const Shape all{to.bytes() / 8};
    if (to.bytes() > 0) copy(*stream_, to.view(DType::i64, all), ConstView{from, DType::i64, DeviceKind::cpu, all});
  };
  upload(device_parameters_, image.parameters);
  upload(device_slots_, image.slots);
  upload(device_local_, image.local);
  stream_->synchronize();
}

}  // namespace lockstep
