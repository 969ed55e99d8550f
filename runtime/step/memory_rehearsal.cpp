// SPDX-License-Identifier: Apache-2.0
#include "runtime/step/memory_rehearsal.h"

#include <deque>
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

// The values and gradients of the variables, without memory.
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

// A part of a batch without memory.
class RehearsedPart {
 public:
  RehearsedPart(Pool& pool, const PartShape& shape)
      : sample_ids_(pool, DType::i64, {shape.samples}, Purpose::data),
        dropout_key_(pool, DType::i64, {}, Purpose::data),
        cells_(pool, DType::f64, {1 + kMostSums}, Purpose::data) {
    std::vector<Column> columns;
    for (const auto& [name, dtype, sample, below] : shape.columns) {
      std::vector<int64_t> sizes{shape.samples};
      sizes.insert(sizes.end(), sample.sizes().begin(), sample.sizes().end());
      const Tensor& values = values_.emplace_back(pool, dtype, Shape(std::span<const int64_t>(sizes)), Purpose::data);
      columns.emplace_back(name, ConstView(values));
    }
    part_ = {0, Batch(std::move(columns), ConstView(sample_ids_))};
  }

  const BatchPart& part() const { return part_; }
  ConstView dropout_key() const { return dropout_key_; }
  StepCells cells() const { return {data<double>(View(cells_)), 1, kMostSums, 0}; }

 private:
  std::deque<Tensor> values_;
  Tensor sample_ids_, dropout_key_, cells_;
  BatchPart part_;
};

}  // namespace

PartShape shape_of(const Batch& batch, int64_t samples, int64_t micro_batches) {
  PartShape shape{{}, samples, micro_batches};
  for (const auto& [name, values] : batch.columns())
    shape.columns.push_back({name, values.dtype, Shape(values.shape.sizes().subspan(1))});
  return shape;
}

TransientMemory rehearse_part(const VariableTable& variables, const Forward& forward, const PartShape& shape,
                              int threads, const std::vector<MeshGroup>* groups) {
  if (shape.samples == 0) return {};
  Stream stream = Stream::rehearsal(threads);
  Pool persistent = Pool::counted(stream.device()), transient = Pool::counted(stream.device());
  RehearsedVariables values(persistent, variables);
  const RehearsedPart rehearsed(persistent, shape);
  Tape tape;
  const std::vector<BatchPart> micro = micro_batches(rehearsed.part(), shape.micro_batches);
  for (size_t m = 0; m < micro.size(); ++m) {
    tape.clear();
    values.watch(tape, variables, m == 0 ? Tape::Destination::fresh : Tape::Destination::adds_up);
    Context context(stream, transient, &tape);
    context.set_values(values.values);
    if (groups) context.set_groups(*groups);
    context.set_activations(shape.activations);
    context.random() = {.key = rehearsed.dropout_key(), .sample_ids = micro[m].batch.sample_ids()};
    (void)forward_backward(context, forward, micro[m], rehearsed.cells(), 1.0f, nullptr);
  }
  return {.activations = transient.live(Purpose::activations).peak,
          .held = transient.held(),
          .scratch = stream.scratch_bytes()};
}

}  // namespace lockstep
