// SPDX-License-Identifier: Apache-2.0
// Variables as tensors of a safetensors file, named by their paths: the one way in which states and weights are written
// and looked for. What a file holds is a choice of variables: all of a plan, or those of the model.
#pragma once

#include <map>
#include <span>
#include <string>
#include <string_view>

#include "runtime/files/safetensors.h"
#include "runtime/state/variable_store.h"

namespace lockstep {

// Writes the file whole or not at all. One rank calls it. Waits for the GPU where there is one.
void write_variables(const std::string& path, const VariableStore& store,
                     std::span<const PlannedVariable* const> variables,
                     const std::map<std::string, std::string>& metadata);

struct ExpectedTensor {
  std::string_view name;
  DType dtype;
  const Shape& shape;
};

// Says in a message what a file should have held: "does not hold WHAT", "NAME is no variable of OWNER", "; ADVICE".
struct FileContent {
  std::string what, owner, advice;
};

// Throws Error(data) naming `path` and, together, the tensors that it lacks, has in addition, or has with another shape
// or dtype. `stored` is sorted by name.
void check_tensors(const std::string& path, std::span<const StoredTensor> stored,
                   std::span<const ExpectedTensor> expected, const FileContent& content);
inline void check_tensors(const SafetensorsFile& file, std::span<const ExpectedTensor> expected,
                          const FileContent& content) {
  check_tensors(file.path(), file.tensors(), expected, content);
}

}  // namespace lockstep
