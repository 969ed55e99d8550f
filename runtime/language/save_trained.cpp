// SPDX-License-Identifier: Apache-2.0
#include "runtime/language/save_trained.h"

#include <deque>

namespace lockstep {

void save_trained(const std::string& path, const TransformerSettings& settings, const VariableStore& variables,
                  const Tokenizer* tokenizer) {
  const Model model = make_transformer("trained", settings);
  std::vector<NamedTensor> tensors;
  std::deque<HostValue> values;
  for (const VariableDeclaration& declared : model.variables.declarations()) {
    const PlannedVariable& variable = variables.plan().at(declared.path);
    const HostValue& value = values.emplace_back(variables.host(variable));
    const auto sizes = variable.shape.sizes();
    tensors.push_back({variable.path, variable.dtype, {sizes.begin(), sizes.end()}, value.view().data});
  }
  if (path.ends_with(".safetensors"))
    save_model_file(path, settings, tensors, tokenizer ? hash_text(*tokenizer) : std::string(),
                    tokenizer ? tokenizer->end_of_text() : std::nullopt);
  else
    save_directory(path, settings, tensors, tokenizer);
}

}  // namespace lockstep
