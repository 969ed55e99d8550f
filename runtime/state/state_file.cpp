// SPDX-License-Identifier: Apache-2.0
#include "runtime/state/state_file.h"

#include <optional>
#include <vector>

#include "runtime/state/stored_variables.h"

namespace lockstep {

void save_state(const std::string& path, const VariableStore& variables) {
  std::vector<const PlannedVariable*> all;
  for (const PlannedVariable& variable : variables.plan().variables) all.push_back(&variable);
  write_variables(path, variables, all, {{"format", "lockstep state"}, {"step", str(variables.scalars().iteration())}});
}

void restore_state(const std::string& path, VariableStore& variables, Communicator& communicator) {
  std::optional<SafetensorsFile> file;
  if (communicator.rank() == 0) {
    file.emplace(path);
    std::vector<ExpectedTensor> expected;
    for (const PlannedVariable& variable : variables.plan().variables)
      expected.push_back({variable.path, variable.dtype, variable.shape});
    check_tensors(*file, expected,
                  {.what = "the state of this run",
                   .owner = "this run",
                   .advice = "go on with the model, optimizers and options that the file was written with"});
  }
  variables.fill(communicator,
                 [&](const PlannedVariable& variable, const View& value) { file->read(variable.path, value); });
}

}  // namespace lockstep
