// SPDX-License-Identifier: Apache-2.0
#include "runtime/tape.h"

#include "kernels/pointwise.h"
#include "runtime/context.h"

namespace lockstep {

bool Gradients::wanted(int i) const { return inputs_[i] >= 0; }

View Gradients::in(int i) {
  Tape::TensorSlot& slot = tape_.slots_[size_t(inputs_[i])];
  if (slot.filled) {
    in_scratch_ |= 1u << i;
    return scratch_[size_t(i)] = context_.empty_like(slot.gradient);
  }
  slot.filled = true;
  if (slot.variable < 0) slot.gradient = context_.empty_like(slot.gradient);
  return slot.gradient;
}

void Gradients::pass(int i) {
  Tape::TensorSlot& slot = tape_.slots_[size_t(inputs_[i])];
  if (slot.filled) {
    in_scratch_ |= 1u << i;
    scratch_[size_t(i)] = *out_;
  } else if (slot.variable < 0) {
    slot.filled = true;
    slot.gradient.share(*out_);
  } else {
    context_.launch(Copy{in(i), *out_});
  }
}

void Tape::clear() {
  for (Node& node : nodes_)
    if (node.closure) node.destroy(node.closure);
  nodes_.clear();
  node_inputs_.clear();
  slots_.clear();
  arena_.reset();
  last_off_tape_ = {};
  ++generation_;
}

void Tape::add_slot(Tensor& tensor, int32_t variable, void* destination) {
  View view = tensor;
  view.data = destination;
  tensor.set_position({int32_t(slots_.size()), generation_});
  slots_.push_back({Tensor::borrow(view), variable, 0, false});
}

void Tape::watch(Tensor& tensor, int32_t variable, const View& destination) {
  check(is_floating(tensor.dtype()), ErrorCode::tape, [&] {
    return str("variable ", variable, " has dtype ", to_string(tensor.dtype()),
               "; only floating variables can be differentiated: give it a role other than parameter");
  });
  check_same_size("watch", destination, View(tensor));
  add_slot(tensor, variable, destination.data);
}

void Tape::add_node(std::string_view op, std::initializer_list<TapePosition> inputs, Tensor& output, void* closure,
                    BackwardFunction backward, DestroyFunction destroy) {
  const int32_t first = int32_t(node_inputs_.size());
  for (const TapePosition& input : inputs) {
    const bool on = on_tape(input);
    node_inputs_.push_back(on ? input.slot : -1);
    if (on) ++slots_[size_t(input.slot)].uses;
  }
  nodes_.push_back({op, backward, destroy, closure, int32_t(slots_.size()), first, int32_t(inputs.size())});
  add_slot(output, -1, nullptr);
}

void Tape::run_node(Node& node, Gradients& gradients) {
  TensorSlot& output = slots_[size_t(node.output)];
  gradients.inputs_ = node_inputs_.data() + node.first_input;
  if (output.filled) {
    gradients.out_ = &output.gradient;
    node.backward(node.closure, gradients.context_, gradients);
    if (!keep_) output.gradient.release();
  }
  // What the op kept for its gradient goes back to the pool at once.
  node.destroy(std::exchange(node.closure, nullptr));
}

void Tape::announce(TensorSlot& slot, Context& context, const OnReady& on_ready) {
  if (!slot.filled) {
    context.launch(Fill{slot.gradient, 0.0f});
    unused_.push_back(slot.variable);
  }
  if (on_ready) on_ready(slot.variable);
}

void Tape::add_scratch(int input, Gradients& gradients) {
  TensorSlot& slot = slots_[size_t(gradients.inputs_[input])];
  Tensor& scratch = gradients.scratch_[size_t(input)];
  if (slot.variable >= 0 || slot.gradient.sole_owner()) {
    gradients.context_.launch(AddInto{slot.gradient, scratch});
  } else {  // the memory is some other tensor's gradient too
    Tensor sum = gradients.context_.empty_like(slot.gradient);
    gradients.context_.launch(Binary<Plus>{sum, slot.gradient, scratch});
    slot.gradient = std::move(sum);
  }
  scratch.release();
}

void Tape::finish_inputs(const Node& node, Gradients& gradients, const OnReady& on_ready) {
  for (int i = 0; i < node.inputs; ++i) {
    if (!gradients.wanted(i)) continue;
    if (gradients.in_scratch_ & (1u << i)) add_scratch(i, gradients);
    TensorSlot& slot = slots_[size_t(gradients.inputs_[i])];
    if (--slot.uses == 0 && slot.variable >= 0) announce(slot, gradients.context_, on_ready);
  }
  gradients.in_scratch_ = 0;
}

void Tape::backward(Context& context, const Tensor& output, const Tensor& seed, const OnReady& on_ready) {
  if (!on_tape(output.position())) fail_nothing_to_differentiate();
  check(seed.shape() == output.shape(), ErrorCode::internal, [&] {
    return str("backward: expected a seed of shape ", to_string(output.shape()), ", got ", to_string(seed.shape()));
  });
  unused_.clear();
  for (TensorSlot& slot : slots_)
    if (slot.variable >= 0 && slot.uses == 0) announce(slot, context, on_ready);
  TensorSlot& last = slots_[size_t(output.position().slot)];
  last.gradient.share(seed);
  last.filled = true;
  Gradients gradients(*this, context);
  for (size_t n = nodes_.size(); n-- > 0;) {
    run_node(nodes_[n], gradients);
    finish_inputs(nodes_[n], gradients, on_ready);
  }
}

Tensor Tape::gradient(const Tensor& tensor) const {
  check(on_tape(tensor.position()), ErrorCode::tape, "gradient: the tensor is not on this tape");
  return slots_[size_t(tensor.position().slot)].gradient;
}

void Tape::fail_nothing_to_differentiate() const {
  const std::string last =
      last_off_tape_.op.empty()
          ? std::string("no op was recorded")
          : str("last op off the tape: ", last_off_tape_.op, " at ", last_off_tape_.where.file_name(), ":",
                last_off_tape_.where.line(), ", whose inputs are all constants or frozen variables");
  fail(ErrorCode::tape, str("nothing to differentiate: the loss reaches no trainable variable; ", last,
                            "; compute the loss from at least one variable of role parameter"));
}

}  // namespace lockstep
