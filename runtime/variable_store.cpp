// SPDX-License-Identifier: Apache-2.0
#include "runtime/variable_store.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>

#include "kernels/philox.h"

namespace lockstep {
namespace {

// Uniform in [0, 1) with 24 bits, one Philox draw per four elements.
float uniform_at(uint64_t key, uint64_t path_hash, int64_t element) {
  const Philox4 draw = philox4x32(key, uint64_t(element / 4), path_hash);
  return float(draw.v[element % 4] >> 8) * 0x1p-24f;
}

void fill_initial(const VariableDeclaration& variable, uint64_t seed, float* values) {
  const Initializer& initializer = variable.initializer;
  const int64_t n = variable.shape.size();
  if (initializer.kind == Initializer::Kind::constant) {
    std::fill_n(values, n, float(initializer.value));
    return;
  }
  const uint64_t path_hash = XXH3_64bits(variable.path.data(), variable.path.size());
  const float bound = float(initializer.value);
  for (int64_t i = 0; i < n; ++i) values[i] = (uniform_at(seed, path_hash, i) * 2 - 1) * bound;
}

}  // namespace

VariableStore::VariableStore(const Plan& plan, const VariableTable& declarations, const Optimizer& optimizer,
                             Communicator& communicator, Pool& pool, uint64_t seed)
    : plan_(plan), pool_(pool), holds_shared_copy_(communicator.place().local_rank == 0) {
  shared_elements_ = plan.arena_elements * int64_t(1 + optimizer.slots().size()) + plan.frozen_elements;
  const int64_t bytes = holds_shared_copy_ ? shared_elements_ * size_of(DType::f32) : 0;
  shared_ = communicator.allocate_shared(bytes);
  base_ = static_cast<float*>(shared_->segment(0));
  scalars_.resize(size_t(plan.memory.scalars / 8));
  if (holds_shared_copy_) {
    pool_.enter(Purpose::parameters, plan.memory.parameters);
    pool_.enter(Purpose::slots, plan.memory.slots);
  }
  pool_.enter(Purpose::scalars, plan.memory.scalars);

  for (const PlannedVariable& variable : plan.variables) {
    if (variable.role == Role::counter) iteration_ = &variable;
    if (variable.role == Role::hyperparameter) learning_rate_ = &variable;
  }
  for (size_t i = 0; i < declarations.declarations().size(); ++i)
    values_.push_back(Tensor::borrow(view(plan.variables[i])));

  if (communicator.rank() == 0) initialize(declarations, optimizer, seed);
  broadcast(communicator);
}

VariableStore::~VariableStore() {
  if (holds_shared_copy_) {
    pool_.enter(Purpose::parameters, -plan_.memory.parameters);
    pool_.enter(Purpose::slots, -plan_.memory.slots);
  }
  pool_.enter(Purpose::scalars, -plan_.memory.scalars);
}

float* VariableStore::section(Section section, int32_t slot) const {
  if (section == Section::trainable) return base_;
  if (section == Section::frozen) return base_ + plan_.arena_elements;
  return base_ + plan_.arena_elements + plan_.frozen_elements + int64_t(slot) * plan_.arena_elements;
}

View VariableStore::view(const PlannedVariable& variable) const {
  if (variable.section == Section::scalars)
    return {const_cast<int64_t*>(scalars_.data()) + variable.offset, variable.dtype, DeviceKind::cpu, variable.shape};
  return {section(variable.section, variable.slot) + variable.offset, variable.dtype, DeviceKind::cpu, variable.shape};
}

View VariableStore::parameters(int64_t begin, int64_t end) const {
  return {section(Section::trainable, 0) + begin, DType::f32, DeviceKind::cpu, Shape{end - begin}};
}

View VariableStore::slot(int32_t slot, int64_t begin, int64_t end) const {
  return {section(Section::slot, slot) + begin, DType::f32, DeviceKind::cpu, Shape{end - begin}};
}

void VariableStore::initialize(const VariableTable& declarations, const Optimizer& optimizer, uint64_t seed) {
  for (size_t i = 0; i < declarations.declarations().size(); ++i)
    fill_initial(declarations.declarations()[i], seed, data<float>(view(plan_.variables[i])));
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
}

void VariableStore::broadcast(Communicator& communicator) {
  Stream stream = Stream::cpu();
  // The window is one per node: the first rank of each node receives for all of it.
  const std::unique_ptr<Communicator> leaders = communicator.split(holds_shared_copy_ ? 0 : 1, communicator.rank());
  if (holds_shared_copy_)
    leaders->broadcast(View{base_, DType::f32, DeviceKind::cpu, Shape{shared_elements_}}, 0, stream).wait(stream);
  const View cells{scalars_.data(), DType::i64, DeviceKind::cpu, Shape{int64_t(scalars_.size())}};
  communicator.broadcast(cells, 0, stream).wait(stream);
  communicator.barrier();
}

}  // namespace lockstep
