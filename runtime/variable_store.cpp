// SPDX-License-Identifier: Apache-2.0
#include "runtime/variable_store.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>

#include "kernels/philox.h"
#include "runtime/planner.h"

namespace lockstep {
namespace {

// Uniform in [0, 1) with 24 bits, one Philox draw per four elements.
float uniform_at(uint64_t key, uint64_t path_hash, int64_t element) {
  const Philox4 draw = philox4x32(key, uint64_t(element / 4), path_hash);
  return float(draw.v[element % 4] >> 8) * 0x1p-24f;
}

template <class T>
void fill_constant(const View& values, double constant) {
  std::fill_n(data<T>(values), values.size(), T(constant));
}

void fill_initial(const VariableDeclaration& variable, uint64_t seed, const View& values) {
  const Initializer& initializer = variable.initializer;
  if (initializer.kind == Initializer::Kind::constant) {
    switch (variable.dtype) {
      case DType::f32:
        return fill_constant<float>(values, initializer.value);
      case DType::bf16:
        return fill_constant<bfloat16>(values, initializer.value);
      case DType::f64:
        return fill_constant<double>(values, initializer.value);
      case DType::i32:
        return fill_constant<int32_t>(values, initializer.value);
      case DType::i64:
        return fill_constant<int64_t>(values, initializer.value);
    }
  }
  const uint64_t path_hash = XXH3_64bits(variable.path.data(), variable.path.size());
  const float bound = float(initializer.value);
  float* out = data<float>(values);
  for (int64_t i = 0; i < values.size(); ++i) out[i] = (uniform_at(seed, path_hash, i) * 2 - 1) * bound;
}

}  // namespace

VariableStore::VariableStore(const Plan& plan, const VariableTable& declarations, const Optimizer& optimizer,
                             Communicator& communicator, Pool& pool, uint64_t seed)
    : plan_(plan),
      pool_(pool),
      holds_shared_copy_(communicator.place().local_rank == 0),
      optimizer_scalars_(optimizer.scalars().size()) {
  check_runnable(plan);
  const int64_t shared_bytes = node_copy().parameters + node_copy().slots;
  shared_ = communicator.allocate_shared(holds_shared_copy_ ? shared_bytes : 0);
  base_ = static_cast<float*>(shared_->segment(0));
  shared_elements_ = shared_bytes / size_of(DType::f32);
  local_.resize(size_t(plan.local_bytes / 8));
  pool_.enter(Purpose::parameters, memory().parameters);
  pool_.enter(Purpose::slots, memory().slots);
  pool_.enter(Purpose::scalars, memory().scalars);

  iteration_ = &plan.at(str(optimizer.name(), "/iteration"));
  learning_rate_ = &plan.at(str(optimizer.name(), "/learning_rate"));
  for (size_t i = 0; i < declarations.declarations().size(); ++i)
    values_.push_back(Tensor::borrow(view(plan.variables[i])));

  if (communicator.rank() == 0) initialize(declarations, optimizer, seed);
  broadcast(communicator);
}

VariableStore::~VariableStore() {
  pool_.enter(Purpose::parameters, -memory().parameters);
  pool_.enter(Purpose::slots, -memory().slots);
  pool_.enter(Purpose::scalars, -memory().scalars);
}

// What this rank's ledger carries: the node's copy is entered by one rank of the node.
PlannedMemory VariableStore::memory() const {
  PlannedMemory memory = holds_shared_copy_ ? node_copy() : PlannedMemory{};
  memory.scalars = plan_.local_bytes;
  return memory;
}

PlannedMemory VariableStore::node_copy() const {
  return {.parameters = plan_.parameter_bytes() + plan_.frozen_bytes,
          .slots = plan_.arena_elements * size_of(DType::f32) * plan_.slots};
}

char* VariableStore::section(const PlannedVariable& variable) const {
  const auto at = [&](int64_t element) { return reinterpret_cast<char*>(base_ + element); };
  switch (variable.section) {
    case Section::trainable:
      return at(0);
    case Section::frozen:
      return at(plan_.arena_elements);
    case Section::slot:
      return at(plan_.arena_elements * (1 + variable.slot)) + plan_.frozen_bytes;
    case Section::local:
      return const_cast<char*>(reinterpret_cast<const char*>(local_.data()));
  }
  return nullptr;
}

View VariableStore::view(const PlannedVariable& variable) const {
  const bool in_arena = variable.section == Section::trainable || variable.section == Section::slot;
  char* at = section(variable) + variable.offset * (in_arena ? size_of(DType::f32) : 1);
  return {at, variable.dtype, DeviceKind::cpu, variable.shape};
}

std::span<double> VariableStore::optimizer_state() {
  // They follow the learning rate, eight bytes each.
  return {static_cast<double*>(view(*learning_rate_).data) + 1, optimizer_scalars_};
}

View VariableStore::parameters(int64_t begin, int64_t end) const {
  return {base_ + begin, DType::f32, DeviceKind::cpu, Shape{end - begin}};
}

View VariableStore::slot(int32_t slot, int64_t begin, int64_t end) const {
  float* arena = base_ + plan_.arena_elements * (1 + slot) + plan_.frozen_bytes / size_of(DType::f32);
  return {arena + begin, DType::f32, DeviceKind::cpu, Shape{end - begin}};
}

void VariableStore::initialize(const VariableTable& declarations, const Optimizer& optimizer, uint64_t seed) {
  for (size_t i = 0; i < declarations.declarations().size(); ++i)
    fill_initial(declarations.declarations()[i], seed, view(plan_.variables[i]));
  for (const PlannedVariable& variable : plan_.variables) {
    if (variable.section != Section::slot) continue;
    const Slot& slot = optimizer.slots()[size_t(variable.slot)];
    const int64_t n = variable.shape.size();
    // A slot lies where its parameter lies.
    if (slot.starts_as_parameter) {
      std::copy_n(data<float>(parameters(variable.offset, variable.offset + n)), n, data<float>(view(variable)));
    } else {
      std::fill_n(data<float>(view(variable)), n, slot.initial);
    }
  }
  learning_rate() = optimizer.learning_rate();
  for (size_t i = 0; i < optimizer.scalars().size(); ++i) optimizer_state()[i] = optimizer.scalars()[i].initial;
}

void VariableStore::broadcast(Communicator& communicator) {
  Stream stream = Stream::cpu();
  // The window is one per node: the first rank of each node receives for all of it.
  const std::unique_ptr<Communicator> leaders = communicator.split(holds_shared_copy_ ? 0 : 1, communicator.rank());
  if (holds_shared_copy_)
    leaders->broadcast(View{base_, DType::f32, DeviceKind::cpu, Shape{shared_elements_}}, 0, stream).wait(stream);
  const View cells{local_.data(), DType::i64, DeviceKind::cpu, Shape{int64_t(local_.size())}};
  communicator.broadcast(cells, 0, stream).wait(stream);
  communicator.barrier();
}

}  // namespace lockstep
