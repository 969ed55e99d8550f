// SPDX-License-Identifier: Apache-2.0
#include "runtime/step/memory_rehearsal.h"

#include <vector>

#include "runtime/step/forward_backward.h"

namespace lockstep {
namespace {

const Shape& declared_shape(const VariableDeclaration& variable) {
  check(!variable.shape_pending, ErrorCode::plan, [&] {
    return str("variable ", variable.path, " has no shape yet, so its memory cannot be forecast; ",
               "tell it with VariableTable::set_shape first");
  });
  return variable.shape;
}

// Values and gradients of the variables, without memory.
struct RehearsedVariables {
  std::vector<Tensor> values, gradients;

  RehearsedVariables(Pool& pool, const VariableTable& variables) {
    for (const VariableDeclaration& variable : variables.declarations()) {
      values.emplace_back(pool, variable.dtype, declared_shape(variable), Purpose::parameters);
      gradients.emplace_back(pool, DType::f32, declared_shape(variable), Purpose::gradients);
    }
  }

  void watch(Tape& tape, const VariableTable& variables, Tape::Destination destination) {
    for (size_t v = 0; v < values.size(); ++v)
      if (const VariableDeclaration& variable = variables.declarations()[v]; variable.trainable())
        tape.watch(values[v], int32_t(v), gradients[v], variable.path, destination);
  }
};

// A batch without memory.
struct RehearsedLeaf {
  Tensor inputs, labels, sample_ids, dropout_key, cells;

  RehearsedLeaf(Pool& pool, const LeafShape& shape)
      : inputs(pool, DType::f32, batch_shape(shape), Purpose::data),
        labels(pool, DType::i32, {shape.samples}, Purpose::data),
        sample_ids(pool, DType::i64, {shape.samples}, Purpose::data),
        dropout_key(pool, DType::i64, {}, Purpose::data),
        cells(pool, DType::f64, {2}, Purpose::data) {}

  LeafInput input() const { return {.leaf = 0, .inputs = inputs, .labels = labels, .sample_ids = sample_ids}; }

 private:
  static Shape batch_shape(const LeafShape& shape) {
    std::vector<int64_t> sizes{shape.samples};
    sizes.insert(sizes.end(), shape.sample.sizes().begin(), shape.sample.sizes().end());
    return Shape(std::span<const int64_t>(sizes));
  }
};

}  // namespace

TransientMemory rehearse_leaf(const VariableTable& variables, const Forward& forward, const LeafShape& shape,
                              int threads, const std::vector<MeshGroup>* groups) {
  if (shape.samples == 0) return {};
  Stream stream = Stream::rehearsal(threads);
  Pool persistent = Pool::counted(stream.device()), transient = Pool::counted(stream.device());
  RehearsedVariables values(persistent, variables);
  const RehearsedLeaf leaf(persistent, shape);
  Tape tape;
  const std::vector<LeafInput> parts = micro_batches(leaf.input(), shape.micro_batches);
  for (size_t p = 0; p < parts.size(); ++p) {
    tape.clear();
    values.watch(tape, variables, p == 0 ? Tape::Destination::fresh : Tape::Destination::adds_up);
    Context context(stream, transient, &tape);
    context.set_values(values.values);
    if (groups) context.set_groups(*groups);
    context.random() = {.key = leaf.dropout_key, .sample_ids = parts[p].sample_ids};
    forward_backward(context, forward, parts[p], leaf.cells, 1.0f, nullptr);
  }
  return {.activations = transient.live(Purpose::activations).peak,
          .held = transient.held(),
          .scratch = stream.scratch_bytes()};
}

}  // namespace lockstep
