// SPDX-License-Identifier: Apache-2.0
// The context of a computation: stream, memory, the tape if there is one, random position, values of variables, other
// ranks. It is the first argument of every op; nothing is global.
#pragma once

#include <cstdint>
#include <source_location>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "kernels/device/memory.h"
#include "kernels/launch.h"
#include "runtime/autograd/result_observer.h"
#include "runtime/autograd/tape.h"
#include "runtime/autograd/tensor.h"
#include "runtime/variables/variables.h"

namespace lockstep {

class MeshGroup;

// The source of random numbers: a function of seed, step, sample and op, never of rank or order of execution.
struct RandomPosition {
  ConstView key;         // [] i64: dropout_key() of seed and step, on the stream's device
  ConstView sample_ids;  // [samples] i64: one per row of the batch, on the stream's device
  uint32_t next_op = 0;  // counts the random ops of one forward pass
};

class Context {
 public:
  // Without a tape nothing is recorded (evaluation).
  Context(Stream& stream, Pool& pool, Tape* tape)
      : stream_(stream), pool_(pool), tape_(tape), training_(tape != nullptr) {}
  // The same computation, recorded on another tape, or on none (null) while it still trains.
  Context with_tape(Tape* tape) const {
    Context other = *this;
    other.tape_ = tape;
    return other;
  }

  Stream& stream() { return stream_; }
  Tape* tape() { return tape_; }
  Tensor empty(const Shape& shape, DType dtype = DType::f32) { return Tensor(pool_, dtype, shape); }
  Tensor empty_like(const Tensor& x) { return Tensor(pool_, x.dtype(), x.shape()); }

  template <class Kernel>
  void launch(const Kernel& kernel) {
    lockstep::launch(stream_, kernel);
  }

  // The values of the model's variables, by Variable::index.
  void set_values(std::span<const Tensor> values) { values_ = values; }
  const Tensor& value(Variable variable) const {
    if (asked_) asked_->push_back(variable);
    return values_[size_t(variable.index)];
  }
  std::span<const Tensor> values() const { return values_; }
  // Enters every variable whose value is asked for from now on; null: enters none.
  void note_variables(std::vector<Variable>* asked) { asked_ = asked; }

  // The groups of the mesh, as DeviceMesh::groups() gives them; they outlive the context and its tape. Without them
  // there is one rank.
  void set_groups(const std::vector<MeshGroup>& groups) { groups_ = &groups; }
  // The ranks along an axis; null where this rank is the only one, so that an op has nobody to ask. Error(plan) names
  // the axes that exist.
  const MeshGroup* group(std::string_view axis) const;

  // The dtype, f32 or bf16, in which activations begin at an embedding; what comes of them is kept in theirs.
  void set_activations(DType dtype) { activations_ = dtype; }
  DType activations() const { return activations_; }

  // Is told of every op from now on; null: nobody is.
  void set_observer(ResultObserver* observer) { observer_ = observer; }
  ResultObserver* observer() const { return observer_; }

  RandomPosition& random() { return random_; }
  bool training() const { return training_; }

 private:
  Stream& stream_;
  Pool& pool_;
  Tape* tape_;
  bool training_;
  std::span<const Tensor> values_;
  std::vector<Variable>* asked_ = nullptr;
  ResultObserver* observer_ = nullptr;
  const std::vector<MeshGroup>* groups_ = nullptr;
  DType activations_ = DType::f32;
  RandomPosition random_;
};

// The first parameter of ops: a Context that remembers where the op was called, for messages.
struct Call {
  Context& context;
  std::source_location where;

  Call(Context& c, std::source_location w = std::source_location::current()) : context(c), where(w) {}

  template <class Backward>
  void record(std::string_view op, std::initializer_list<TapePosition> inputs, Tensor& output,
              Backward&& backward) const {
    record(op, std::span(inputs.begin(), inputs.size()), output, std::forward<Backward>(backward));
  }
  template <class Backward>
  void record(std::string_view op, std::span<const TapePosition> inputs, Tensor& output, Backward&& backward) const {
    if (context.observer()) [[unlikely]]
      context.observer()->forward(op, where, output);
    if (context.tape()) context.tape()->record(op, where, inputs, output, std::forward<Backward>(backward));
  }
};

}  // namespace lockstep
