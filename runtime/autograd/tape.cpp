// SPDX-License-Identifier: Apache-2.0
#include "runtime/autograd/tape.h"

#include <algorithm>

#include "kernels/pointwise.h"
#include "runtime/autograd/context.h"

namespace lockstep {

bool Gradients::wanted(int i) const { return inputs_[i] >= 0; }

View Gradients::in(int i) {
  Tape::TensorSlot& slot = tape_.slots_[size_t(inputs_[i])];
  slot.reached = true;
  if (slot.filled) {
    additional_[size_t(i)] = &scratch_[size_t(i)];
    return scratch_[size_t(i)] = context_.empty_like(slot.gradient);
  }
  slot.filled = true;
  if (slot.variable < 0) slot.gradient = context_.empty_like(slot.gradient);
  return slot.gradient;
}

Gradients::Accumulator Gradients::accumulator(int i) {
  Tape::TensorSlot& slot = tape_.slots_[size_t(inputs_[i])];
  if (!slot.filled || (slot.variable < 0 && !slot.gradient.sole_owner())) return {in(i), false};
  slot.reached = true;
  return {slot.gradient, true};
}

void Gradients::pass(int i) {
  Tape::TensorSlot& slot = tape_.slots_[size_t(inputs_[i])];
  slot.reached = true;
  if (slot.filled) {
    additional_[size_t(i)] = out_;
  } else if (slot.variable < 0) {
    slot.filled = true;
    slot.gradient.share(*out_);
  } else {
    context_.launch(Copy{in(i), *out_});
  }
}

void Tape::clear() {
  for (Node& node : nodes_)
    if (node.destroy) node.destroy(node.closure);
  nodes_.clear();
  node_inputs_.clear();
  slots_.clear();
  arena_.reset();
  names_.clear();
  last_off_tape_ = last_on_tape_ = {};
  ++generation_;
}

void Tape::add_slot(Tensor& tensor, int32_t variable, const View& destination) {
  tensor.set_position({int32_t(slots_.size()), generation_});
  TensorSlot& slot = slots_.emplace_back();
  slot.gradient.borrow_as(destination, tensor.shape());
  slot.variable = variable;
}

void Tape::watch(Tensor& tensor, int32_t variable, const View& destination, std::string_view name, Destination kind) {
  check(is_floating(tensor.dtype()), ErrorCode::tape, [&] {
    return str("variable ", name, " has dtype ", to_string(tensor.dtype()),
               "; only floating variables can be differentiated: give it a role other than parameter");
  });
  const bool fits = destination.dtype == DType::f32 || destination.dtype == tensor.dtype();
  check(fits && destination.size() == tensor.size(), ErrorCode::internal, [&] {
    return str("watch: expected ", tensor.size(), " elements of f32 or ", to_string(tensor.dtype()),
               " for the gradient of ", name, ", got ", destination.size(), " of ", to_string(destination.dtype));
  });
  add_slot(tensor, variable, destination);
  slots_.back().filled = kind == Destination::adds_up;
  names_.push_back(name);
}

void Tape::add_node(const OpPlace& op, std::span<const TapePosition> inputs, Tensor& output, void* closure,
                    BackwardFunction backward, DestroyFunction destroy) {
  check(inputs.size() <= size_t(kMaxInputs), ErrorCode::internal,
        [&] { return str("op ", op.op, " has ", inputs.size(), " inputs, expected at most ", kMaxInputs); });
  const int32_t first = int32_t(node_inputs_.size());
  for (const TapePosition& input : inputs) {
    const bool on = on_tape(input);
    node_inputs_.push_back(on ? input.slot : -1);
    if (on) ++slots_[size_t(input.slot)].uses;
  }
  Node& node = nodes_.emplace_back();
  node.op = op;
  node.backward = backward;
  node.destroy = destroy;
  node.closure = closure;
  node.output = int32_t(slots_.size());
  node.first_input = first;
  node.inputs = int32_t(inputs.size());
  View nowhere = output;
  nowhere.data = nullptr;
  add_slot(output, -1, nowhere);
}

void Tape::run_node(Node& node, Gradients& gradients, const OnReady& on_ready) {
  TensorSlot& output = slots_[size_t(node.output)];
  gradients.inputs_ = node_inputs_.data() + node.first_input;
  gradients.out_ = &output.gradient;
  if (output.filled) node.backward(node.closure, gradients.context_, gradients);
  // The pool gets back at once what the op kept for its gradient.
  if (node.destroy) std::exchange(node.destroy, nullptr)(node.closure);
  finish_inputs(node, gradients, on_ready);
  if (ResultObserver* observer = gradients.context_.observer()) [[unlikely]]
    show_gradients(node, gradients, *observer);
  if (!keep_) output.gradient.release();
}

void Tape::show_gradients(const Node& node, const Gradients& gradients, ResultObserver& observer) const {
  for (int i = 0; i < node.inputs; ++i) {
    if (!gradients.wanted(i)) continue;
    const TensorSlot& slot = slots_[size_t(gradients.inputs_[i])];
    if (slot.filled) observer.backward(node.op.op, node.op.where, slot.gradient, slot.variable);
  }
}

void Tape::announce(TensorSlot& slot, Context& context, const OnReady& on_ready) {
  if (!slot.filled) context.launch(Fill{slot.gradient, 0.0f});
  if (!slot.reached) unused_.push_back(slot.variable);
  if (on_ready) on_ready(slot.variable);
}

void Tape::add_contribution(TensorSlot& slot, const Tensor& contribution, Context& context) {
  if (slot.variable >= 0 || slot.gradient.sole_owner()) {
    context.launch(AddInto{slot.gradient, contribution});
  } else {  // the memory is also some other tensor's gradient
    Tensor sum = context.empty_like(slot.gradient);
    context.launch(Binary<Plus>{sum, slot.gradient, contribution});
    slot.gradient = std::move(sum);
  }
}

void Tape::finish_inputs(const Node& node, Gradients& gradients, const OnReady& on_ready) {
  for (int i = 0; i < node.inputs; ++i) {
    if (!gradients.wanted(i)) continue;
    TensorSlot& slot = slots_[size_t(gradients.inputs_[i])];
    if (const Tensor* contribution = std::exchange(gradients.additional_[size_t(i)], nullptr)) {
      add_contribution(slot, *contribution, gradients.context_);
      gradients.scratch_[size_t(i)].release();
    }
    if (--slot.uses == 0 && slot.variable >= 0) announce(slot, gradients.context_, on_ready);
  }
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
  for (size_t n = nodes_.size(); n-- > 0;) run_node(nodes_[n], gradients, on_ready);
}

Tensor Tape::gradient(const Tensor& tensor) const {
  check(on_tape(tensor.position()), ErrorCode::tape, "gradient: the tensor is not on this tape");
  return slots_[size_t(tensor.position().slot)].gradient;
}

void Tape::fail_nothing_to_differentiate() const {
  const auto shown = [](const OpPlace& place) {
    return str(place.op, " at ", place.where.file_name(), ":", place.where.line());
  };
  std::string text = "nothing to differentiate: the loss reaches no trainable variable";
  constexpr size_t kShown = 4;
  for (size_t i = 0; i < std::min(names_.size(), kShown); ++i) text += str(i == 0 ? " (such as " : ", ", names_[i]);
  if (!names_.empty()) text += ")";
  if (!last_off_tape_.op.empty())
    text +=
        str("; last op off the tape: ", shown(last_off_tape_), ", whose inputs are all constants or frozen variables");
  if (!last_on_tape_.op.empty())
    text += str("; last op on the tape: ", shown(last_on_tape_),
                ", whose result or what came of it left the tape, so return what ops have made");
  if (last_off_tape_.op.empty() && last_on_tape_.op.empty()) text += "; no op was recorded";
  fail(ErrorCode::tape, text + "; compute the loss from at least one variable of role parameter");
}

}  // namespace lockstep
