// SPDX-License-Identifier: Apache-2.0
#include "runtime/state/state_file.h"

#include <algorithm>
#include <deque>
#include <set>
#include <vector>

#include "runtime/files/safetensors.h"

namespace lockstep {
namespace {

std::string describe(DType dtype, std::span<const int64_t> sizes) {
  return str(to_string(dtype), " ", to_string(Shape(sizes)));
}

// What keeps the file from being the state of this plan.
std::vector<std::string> differences(const SafetensorsFile& file, const Plan& plan) {
  std::vector<std::string> lines;
  std::set<std::string_view> known;
  for (const PlannedVariable& variable : plan.variables) {
    known.insert(variable.path);
    const StoredTensor* stored = file.find(variable.path);
    const auto sizes = variable.shape.sizes();
    if (stored == nullptr)
      lines.push_back(str(variable.path, " is missing"));
    else if (stored->dtype != variable.dtype ||
             !std::equal(sizes.begin(), sizes.end(), stored->shape.begin(), stored->shape.end()))
      lines.push_back(str(variable.path, " is ", describe(stored->dtype, stored->shape), ", expected ",
                          describe(variable.dtype, sizes)));
  }
  for (const StoredTensor& stored : file.tensors())
    if (!known.contains(stored.name)) lines.push_back(str(stored.name, " is no variable of this run"));
  return lines;
}

void check_fits(const SafetensorsFile& file, const Plan& plan) {
  constexpr size_t kShown = 8;
  const std::vector<std::string> lines = differences(file, plan);
  check(lines.empty(), ErrorCode::data, [&] {
    std::string text = str(file.path(), " does not hold the state of this run:");
    for (size_t i = 0; i < std::min(lines.size(), kShown); ++i) text += (i ? "; " : " ") + lines[i];
    if (lines.size() > kShown) text += str("; and ", lines.size() - kShown, " more");
    return text + "; go on with the model, optimizers and options that the file was written with";
  });
}

}  // namespace

void save_state(const std::string& path, const VariableStore& variables) {
  std::vector<NamedTensor> tensors;
  std::deque<HostValue> values;
  for (const PlannedVariable& variable : variables.plan().variables) {
    const HostValue& value = values.emplace_back(variables.host(variable));
    const auto sizes = variable.shape.sizes();
    tensors.push_back({variable.path, variable.dtype, {sizes.begin(), sizes.end()}, value.view().data});
  }
  write_safetensors(path, tensors, {{"format", "lockstep state"}, {"step", str(variables.iteration())}});
}

void restore_state(const std::string& path, VariableStore& variables, Communicator& communicator) {
  std::optional<SafetensorsFile> file;
  if (communicator.rank() == 0) {
    file.emplace(path);
    check_fits(*file, variables.plan());
  }
  variables.fill(communicator,
                 [&](const PlannedVariable& variable, const View& value) { file->read(variable.path, value); });
}

}  // namespace lockstep
