// SPDX-License-Identifier: Apache-2.0
#include "tools/training/weights.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <cmath>
#include <vector>

#include "runtime/state/stored_variables.h"

namespace lockstep {

void save_weights(const std::string& path, const Model& model, const VariableStore& variables) {
  std::vector<const PlannedVariable*> weights;
  for (const VariableDeclaration& variable : model.variables.declarations())
    weights.push_back(&variables.plan().at(variable.path));
  write_variables(path, variables, weights,
                  {{"format", "lockstep"}, {"model", model.name}, {"step", str(variables.scalars().iteration())}});
}

void load_weights(const std::string& path, const Model& model, std::span<Tensor> values) {
  const SafetensorsFile file(path);
  const auto& declarations = model.variables.declarations();
  std::vector<ExpectedTensor> expected;
  for (const VariableDeclaration& variable : declarations)
    expected.push_back({variable.path, variable.dtype, variable.shape});
  check_tensors(file, expected,
                {.what = str("the weights of model ", model.name),
                 .owner = "the model",
                 .advice = "use the file and --model of one training run"});
  for (size_t v = 0; v < declarations.size(); ++v) file.read(declarations[v].path, values[v]);
}

namespace {

// Calls visit(element, value) for all elements, as double.
template <class Visit>
void for_each_value(const ConstView& view, const Visit& visit) {
  for (int64_t i = 0; i < view.size(); ++i) {
    if (view.dtype == DType::f32) visit(i, double(data<float>(view)[i]));
    if (view.dtype == DType::bf16) visit(i, double(float(data<bfloat16>(view)[i])));
    if (view.dtype == DType::f16) visit(i, double(float(data<float16>(view)[i])));
    if (view.dtype == DType::f64) visit(i, data<double>(view)[i]);
  }
}

}  // namespace

void check_finite(const std::string& path, const Model& model, std::span<const Tensor> values) {
  for (size_t v = 0; v < values.size(); ++v)
    for_each_value(values[v], [&](int64_t element, double value) {
      check(std::isfinite(value), ErrorCode::numbers, [&] {
        return str("'", path, "': expected finite weights, got ", value, " as element ", element, " of ",
                   model.variables.declarations()[v].path, "; save weights of a run whose loss is finite");
      });
    });
}

void narrow_as_stored(const std::string& path, Model& model) {
  const SafetensorsFile file(path);
  for (const StoredTensor& stored : file.tensors())
    if (is_narrow(stored.dtype)) return model.variables.narrow_weights(stored.dtype);
}

uint64_t hash_weights(std::span<const Tensor> values) {
  uint64_t hash = 0;
  for (const Tensor& value : values) {
    const ConstView view = value;
    hash = XXH3_64bits_withSeed(view.data, size_t(view.bytes()), hash);
  }
  return hash;
}

}  // namespace lockstep
