// SPDX-License-Identifier: Apache-2.0
// The tape records the ops of one forward pass and replays them backwards once.
//
// Note [Gradient destinations]. The tape decides where a gradient goes; an op always overwrites the destination it is
// given. The first contribution goes to the final place - for a variable, its range of the gradient arena - and later
// ones to scratch that is added afterwards. Ops know nothing of accumulation, buckets or ranks.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <new>
#include <source_location>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "runtime/autograd/bump_allocator.h"
#include "runtime/autograd/tensor.h"

namespace lockstep {

class Context;
class ResultObserver;
class Tape;

// A segment that is recomputed has all of its variables as inputs.
inline constexpr int kMaxInputs = 24;

// What the backward of an op sees: the gradient of its output, and where the gradients of its inputs go.
class Gradients {
 public:
  ConstView out() const { return *out_; }
  // Whether input i is on the tape; in(i) and pass(i) are only for inputs that are.
  bool wanted(int i) const;
  // The destination of input i's gradient, to be overwritten.
  View in(int i);
  // The same for an op that can add in place, which saves scratch and a pass: where earlier contributions are in memory
  // that is this gradient's alone, the op adds its own to them (`holds`); elsewhere it overwrites. What it adds is
  // rounded to the gradient's dtype before, as it would be in scratch: bits do not depend on who else holds the memory.
  struct Accumulator {
    View view;
    bool holds;
  };
  Accumulator accumulator(int i);
  // Input i's gradient is the output's, element by element. This costs nothing where memory can be shared.
  void pass(int i);

 private:
  friend class Tape;
  Gradients(Tape& tape, Context& context) : tape_(tape), context_(context) {}
  Tape& tape_;
  Context& context_;
  const Tensor* out_ = nullptr;
  const int32_t* inputs_ = nullptr;
  std::array<Tensor, kMaxInputs> scratch_;              // memory of contributions added to an earlier one
  std::array<const Tensor*, kMaxInputs> additional_{};  // those contributions: in scratch_, or *out_ passed on
};

class Tape {
 public:
  Tape() = default;
  Tape(const Tape&) = delete;
  Tape& operator=(const Tape&) = delete;
  ~Tape() { clear(); }

  // Forgets the pass, but keeps the memory of its records.
  void clear();

  // Puts a variable on the tape. Its gradient goes to `destination` (f32 whatever the variable is, or the variable's
  // own dtype), or is added to what is already there, and is announced under `variable`. `name`, for messages, must
  // stay until clear().
  enum class Destination : uint8_t { fresh, adds_up };
  void watch(Tensor& tensor, int32_t variable, const View& destination, std::string_view name = "?",
             Destination kind = Destination::fresh);

  bool on_tape(TapePosition position) const { return position.slot >= 0 && position.generation == generation_; }

  // Records that `op` made `output` from `inputs`. Without an input on the tape it notes the op as off the tape and
  // `output` stays a constant. Backward: void(Context&, Gradients&).
  template <class Backward>
  void record(std::string_view op, const std::source_location& where, std::span<const TapePosition> inputs,
              Tensor& output, Backward&& backward) {
    if (!any_on_tape(inputs)) {
      last_off_tape_ = {op, where};
      return;
    }
    last_on_tape_ = {op, where};
    using Closure = std::decay_t<Backward>;
    static_assert(alignof(Closure) <= 16);
    void* closure = new (arena_.take(sizeof(Closure))) Closure(std::forward<Backward>(backward));
    add_node(
        {op, where}, inputs, output, closure,
        [](void* c, Context& context, Gradients& gradients) { (*static_cast<Closure*>(c))(context, gradients); },
        [](void* c) { static_cast<Closure*>(c)->~Closure(); });
  }
  template <class Backward>
  void record(std::string_view op, const std::source_location& where, std::initializer_list<TapePosition> inputs,
              Tensor& output, Backward&& backward) {
    record(op, where, std::span(inputs.begin(), inputs.size()), output, std::forward<Backward>(backward));
  }

  // Runs the ops backwards from `output`, whose gradient is `seed` (same shape). on_ready(variable) is called once per
  // watched variable as its gradient becomes final; a variable that got no gradient is zeroed and announced too.
  // Throws Error(tape) when `output` is not on the tape: nothing can be differentiated.
  using OnReady = std::function<void(int32_t variable)>;
  void backward(Context& context, const Tensor& output, const Tensor& seed, const OnReady& on_ready);

  // The gradient of a tensor of this pass that is no variable, after a backward with keep_gradients(true).
  void keep_gradients(bool keep) { keep_ = keep; }
  Tensor gradient(const Tensor& tensor) const;

  size_t nodes() const { return nodes_.size(); }
  // The variables that no op led to in the last backward.
  const std::vector<int32_t>& unused_variables() const { return unused_; }

 private:
  friend class Gradients;
  using BackwardFunction = void (*)(void*, Context&, Gradients&);
  using DestroyFunction = void (*)(void*);

  struct OpPlace {
    std::string_view op;
    std::source_location where;
  };
  struct Node {
    OpPlace op;
    BackwardFunction backward;
    DestroyFunction destroy;  // null once destroyed, or where there is nothing to do
    void* closure;
    int32_t output;
    int32_t first_input;
    int32_t inputs;
  };
  struct TensorSlot {
    // Its shape and dtype come at the start, its memory with the first contribution; a variable's is its destination.
    Tensor gradient;
    int32_t variable = -1;  // -1: an intermediate tensor
    int32_t uses = 0;       // recorded uses that have not contributed yet
    bool filled = false;    // whether there is something to add to
    bool reached = false;   // whether a contribution has come
  };

  bool any_on_tape(std::span<const TapePosition> inputs) const {
    for (const TapePosition& input : inputs)
      if (on_tape(input)) return true;
    return false;
  }
  void add_node(const OpPlace& op, std::span<const TapePosition> inputs, Tensor& output, void* closure,
                BackwardFunction backward, DestroyFunction destroy);
  void add_slot(Tensor& tensor, int32_t variable, const View& destination);
  void show_gradients(const Node& node, const Gradients& gradients, ResultObserver& observer) const;
  void run_node(Node& node, Gradients& gradients, const OnReady& on_ready);
  void add_contribution(TensorSlot& slot, const Tensor& contribution, Context& context);
  void finish_inputs(const Node& node, Gradients& gradients, const OnReady& on_ready);
  void announce(TensorSlot& slot, Context& context, const OnReady& on_ready);
  [[noreturn]] void fail_nothing_to_differentiate() const;

  BumpAllocator arena_;
  std::vector<Node> nodes_;
  std::vector<int32_t> node_inputs_;
  std::vector<TensorSlot> slots_;
  std::vector<int32_t> unused_;
  std::vector<std::string_view> names_;  // names of the watched variables
  OpPlace last_off_tape_, last_on_tape_;
  uint32_t generation_ = 1;
  bool keep_ = false;
};

}  // namespace lockstep
