// SPDX-License-Identifier: Apache-2.0
#include "runtime/state/first_values.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/math.h"
#include "kernels/philox.h"
#include "kernels/pointwise.h"

namespace lockstep {
namespace {

// Uniform in [0, 1) with 24 bits, one Philox draw per four elements.
float uniform_at(uint64_t key, uint64_t path_hash, int64_t element) {
  const Philox4 draw = philox4x32(key, uint64_t(element / 4), path_hash);
  return float(draw.v[element % 4] >> 8) * 0x1p-24f;
}

// Normal with deviation 1, by the polar method (Marsaglia & Bray 1964): of the pairs that a key draws, the first inside
// the unit circle counts. It takes + - * /, sqrt and our logarithm, so that every machine has the same values.
float normal_at(uint64_t key, uint64_t path_hash, int64_t element) {
  const auto coordinate = [](uint32_t bits) { return float(bits >> 8) * 0x1p-23f - 1 + 0x1p-24f; };
  for (uint64_t attempt = 0;; ++attempt) {
    const Philox4 draw = philox4x32(key, uint64_t(element), path_hash + attempt);
    for (int pair = 0; pair < 4; pair += 2) {
      const float x = coordinate(draw.v[pair]), y = coordinate(draw.v[pair + 1]), square = x * x + y * y;
      if (square < 1) return x * std::sqrt(-2 * log_f32(square) / square);
    }
  }
}

template <class T>
void fill_with(const View& values, const VariableDeclaration& variable, uint64_t seed) {
  const Initializer& initializer = variable.initializer;
  T* out = data<T>(values);
  if (initializer.kind == Initializer::Kind::constant)
    return void(std::fill_n(out, values.size(), T(initializer.value)));
  const uint64_t path_hash = XXH3_64bits(variable.path.data(), variable.path.size());
  const float bound = float(initializer.value);
  if (initializer.kind == Initializer::Kind::normal) {
    for (int64_t i = 0; i < values.size(); ++i) out[i] = T(normal_at(seed, path_hash, i) * bound);
    return;
  }
  for (int64_t i = 0; i < values.size(); ++i) out[i] = T((uniform_at(seed, path_hash, i) * 2 - 1) * bound);
}

// Fills in the first values of a variable, in itself or in its master.
void fill_initial(const View& values, const VariableDeclaration& variable, uint64_t seed) {
  switch (values.dtype) {
    case DType::f32:
      return fill_with<float>(values, variable, seed);
    case DType::bf16:
      return fill_with<bfloat16>(values, variable, seed);
    case DType::f16:
      return fill_with<float16>(values, variable, seed);
    case DType::f64:
      return fill_with<double>(values, variable, seed);
    case DType::i32:
      return fill_with<int32_t>(values, variable, seed);
    case DType::i64:
      return fill_with<int64_t>(values, variable, seed);
  }
}

// Fills in parameters and their masters; returns, for each variable of the model, what its optimizer updates.
std::vector<View> write_parameters(const StateMemory& memory, const VariableTable& declarations, uint64_t seed) {
  const Plan& plan = memory.plan();
  std::vector<View> updated;
  for (size_t i = 0; i < declarations.declarations().size(); ++i) {
    updated.push_back(memory.view(plan.variables[i]));
    fill_initial(updated.back(), declarations.declarations()[i], seed);
  }
  for (const PlannedVariable& variable : plan.variables) {
    if (variable.section != Section::slot || variable.slot != plan.master_slot) continue;
    View& master = updated[size_t(variable.parameter)];
    master = memory.view(variable);
    fill_initial(master, declarations.declarations()[size_t(variable.parameter)], seed);
  }
  return updated;
}

}  // namespace

void write_first_values(const StateMemory& memory, const VariableTable& declarations, const OptimizerSet& optimizer,
                        uint64_t seed) {
  const Plan& plan = memory.plan();
  const std::vector<View> updated = write_parameters(memory, declarations, seed);
  Stream stream = Stream::cpu();
  for (const PlannedVariable& variable : plan.variables) {
    if (variable.section != Section::slot || variable.slot == plan.master_slot) continue;
    const int32_t group = optimizer.group_of(plan.variables[size_t(variable.parameter)].path);
    const Slot slot = optimizer.slot(group, variable.slot);
    if (slot.starts_as_parameter)
      launch(stream, Copy{memory.view(variable), updated[size_t(variable.parameter)]});
    else
      launch(stream, Fill{memory.view(variable), slot.initial});
  }
  double* rate = data<double>(memory.view(plan.at(str(optimizer.name(), "/learning_rate"))));
  *rate = optimizer.learning_rate();
  for (size_t i = 0; i < optimizer.scalars().size(); ++i) rate[1 + i] = optimizer.scalars()[i].initial;
}

}  // namespace lockstep
