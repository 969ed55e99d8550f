// SPDX-License-Identifier: Apache-2.0
#include "tools/training/weights.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

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
