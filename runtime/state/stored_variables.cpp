// SPDX-License-Identifier: Apache-2.0
#include "runtime/state/stored_variables.h"

#include <algorithm>
#include <deque>
#include <set>
#include <vector>

namespace lockstep {
namespace {

std::string describe(DType dtype, std::span<const int64_t> sizes) {
  return str(to_string(dtype), " ", to_string(Shape(sizes)));
}

std::vector<std::string> differences(std::span<const StoredTensor> tensors, std::span<const ExpectedTensor> expected,
                                     const std::string& owner) {
  std::vector<std::string> lines;
  std::set<std::string_view> known;
  for (const ExpectedTensor& tensor : expected) {
    known.insert(tensor.name);
    const auto stored = std::ranges::lower_bound(tensors, tensor.name, {}, &StoredTensor::name);
    const auto sizes = tensor.shape.sizes();
    if (stored == tensors.end() || stored->name != tensor.name)
      lines.push_back(str(tensor.name, " is missing"));
    else if (stored->dtype != tensor.dtype ||
             !std::equal(sizes.begin(), sizes.end(), stored->shape.begin(), stored->shape.end()))
      lines.push_back(str(tensor.name, " is ", describe(stored->dtype, stored->shape), ", expected ",
                          describe(tensor.dtype, sizes)));
  }
  for (const StoredTensor& stored : tensors)
    if (!known.contains(stored.name)) lines.push_back(str(stored.name, " is no variable of ", owner));
  return lines;
}

}  // namespace

void write_variables(const std::string& path, const VariableStore& store,
                     std::span<const PlannedVariable* const> variables,
                     const std::map<std::string, std::string>& metadata) {
  std::vector<NamedTensor> tensors;
  std::deque<HostValue> values;
  for (const PlannedVariable* variable : variables) {
    const HostValue& value = values.emplace_back(store.host(*variable));
    const auto sizes = variable->shape.sizes();
    tensors.push_back({variable->path, variable->dtype, {sizes.begin(), sizes.end()}, value.view().data});
  }
  write_safetensors(path, tensors, metadata);
}

void check_tensors(const std::string& path, std::span<const StoredTensor> stored,
                   std::span<const ExpectedTensor> expected, const FileContent& content) {
  constexpr size_t kShown = 8;
  const std::vector<std::string> lines = differences(stored, expected, content.owner);
  check(lines.empty(), ErrorCode::data, [&] {
    std::string text = str(path, " does not hold ", content.what, ":");
    for (size_t i = 0; i < std::min(lines.size(), kShown); ++i) text += (i ? "; " : " ") + lines[i];
    if (lines.size() > kShown) text += str("; and ", lines.size() - kShown, " more");
    return text + "; " + content.advice;
  });
}

}  // namespace lockstep
