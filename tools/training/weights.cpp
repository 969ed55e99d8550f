// SPDX-License-Identifier: Apache-2.0
#include "tools/training/weights.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <set>
#include <vector>

#include "runtime/files/safetensors.h"

namespace lockstep {
namespace {

std::string describe(DType dtype, std::span<const int64_t> sizes) {
  return str(to_string(dtype), " ", to_string(Shape(sizes)));
}

// Why the file does not hold the model's weights, one reason per line.
std::vector<std::string> differences(const SafetensorsFile& file, const Model& model) {
  std::vector<std::string> lines;
  std::set<std::string> known;
  for (const VariableDeclaration& variable : model.variables.declarations()) {
    known.insert(variable.path);
    const StoredTensor* stored = file.find(variable.path);
    if (!stored) {
      lines.push_back(str(variable.path, " is missing"));
      continue;
    }
    const auto sizes = variable.shape.sizes();
    if (stored->dtype != variable.dtype ||
        !std::equal(sizes.begin(), sizes.end(), stored->shape.begin(), stored->shape.end()))
      lines.push_back(str(variable.path, " is ", describe(stored->dtype, stored->shape), ", expected ",
                          describe(variable.dtype, sizes)));
  }
  for (const StoredTensor& stored : file.tensors())
    if (!known.contains(stored.name)) lines.push_back(str(stored.name, " is no variable of the model"));
  return lines;
}

}  // namespace

void save_weights(const std::string& path, const Model& model, const VariableStore& variables) {
  std::vector<NamedTensor> tensors;
  std::deque<HostValue> values;
  for (const VariableDeclaration& variable : model.variables.declarations()) {
    const HostValue& value = values.emplace_back(variables.host(variables.plan().at(variable.path)));
    const auto sizes = variable.shape.sizes();
    tensors.push_back({variable.path, variable.dtype, {sizes.begin(), sizes.end()}, value.view().data});
  }
  write_safetensors(path, tensors,
                    {{"format", "lockstep"}, {"model", model.name}, {"step", str(variables.iteration())}});
}

void load_weights(const std::string& path, const Model& model, std::span<Tensor> values) {
  const SafetensorsFile file(path);
  const std::vector<std::string> lines = differences(file, model);
  check(lines.empty(), ErrorCode::data, [&] {
    std::string text = str(path, " does not hold the weights of model ", model.name, ":");
    for (size_t i = 0; i < lines.size() && i < 8; ++i) text += (i ? "; " : " ") + lines[i];
    if (lines.size() > 8) text += str("; and ", lines.size() - 8, " more");
    return text + "; use the file and --model of one training run";
  });
  const auto& declarations = model.variables.declarations();
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
