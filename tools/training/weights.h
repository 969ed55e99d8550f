// SPDX-License-Identifier: Apache-2.0
// A model's weights as a safetensors file: one tensor per variable, named by its path.
#pragma once

#include <string>

#include "runtime/models/model_list.h"
#include "runtime/plan/plan.h"
#include "runtime/state/variable_store.h"

namespace lockstep {

// Writes the file whole or not at all. One rank calls it.
void save_weights(const std::string& path, const Model& model, const VariableStore& variables);

// Reads every variable of `model` into `values`. Throws Error(data) naming the file and, together, all variables that
// are missing, extra or of another shape or dtype.
void load_weights(const std::string& path, const Model& model, std::span<Tensor> values);

// Throws Error(numbers) that names a variable and its first value that is not finite, if there is one: with it there
// are no answers to count.
void check_finite(const std::string& path, const Model& model, std::span<const Tensor> values);

// Keeps the model's weights in the file's dtypes, before memory is taken for them. Error(file, data).
void narrow_as_stored(const std::string& path, Model& model);

// Lets ranks compare their weights.
uint64_t hash_weights(std::span<const Tensor> values);

}  // namespace lockstep
