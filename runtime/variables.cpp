// SPDX-License-Identifier: Apache-2.0
#include "runtime/variables.h"

#include <algorithm>
#include <cmath>

namespace lockstep {

std::string_view to_string(Role role) {
  switch (role) {
    case Role::parameter:
      return "parameter";
    case Role::frozen_parameter:
      return "frozen_parameter";
    case Role::slot:
      return "slot";
    case Role::counter:
      return "counter";
    case Role::hyperparameter:
      return "hyperparameter";
  }
  return "?";
}

std::string_view to_string(Aggregation aggregation) {
  switch (aggregation) {
    case Aggregation::none:
      return "none";
    case Aggregation::only_first_replica:
      return "only_first_replica";
  }
  return "?";
}

std::string to_string(const Layout& layout) {
  std::string text = "[";
  for (size_t i = 0; i < layout.axes.size(); ++i)
    text += (i ? ", " : "") + (layout.axes[i].empty() ? std::string("-") : layout.axes[i]);
  return text + "]";
}

Initializer Initializer::glorot_uniform(int64_t fan_in, int64_t fan_out) {
  return {Kind::uniform, std::sqrt(6.0 / double(fan_in + fan_out))};
}

Variable VariableTable::declare(VariableDeclaration declaration) {
  check(!declaration.path.empty(), ErrorCode::plan, "a variable needs a path, such as dense/weight; got an empty one");
  for (const VariableDeclaration& known : declarations_)
    check(known.path != declaration.path, ErrorCode::plan,
          [&] { return str("variable ", declaration.path, " is declared twice; paths are unique"); });
  check(!declaration.trainable() || declaration.dtype == DType::f32 || declaration.dtype == DType::bf16,
        ErrorCode::plan, [&] {
          return str("variable ", declaration.path, " has role parameter and dtype ", to_string(declaration.dtype),
                     "; only f32 and bf16 can be trained: use another dtype or a role such as frozen_parameter");
        });
  check(declaration.role != Role::counter || declaration.dtype == DType::i64, ErrorCode::plan, [&] {
    return str("variable ", declaration.path, " is a counter of dtype ", to_string(declaration.dtype),
               "; counters are i64, which stays exact beyond 2^24 steps");
  });
  declarations_.push_back(std::move(declaration));
  return {int32_t(declarations_.size()) - 1};
}

int64_t VariableTable::parameter_count() const {
  int64_t count = 0;
  for (const VariableDeclaration& declaration : declarations_) count += declaration.shape.size();
  return count;
}

void VariableTable::freeze(std::string_view path) {
  const auto found =
      std::find_if(declarations_.begin(), declarations_.end(), [&](const auto& d) { return d.path == path; });
  check(found != declarations_.end(), ErrorCode::plan, [&] {
    std::string known;
    for (const VariableDeclaration& d : declarations_) known += (known.empty() ? "" : ", ") + d.path;
    return str("cannot freeze ", path, ": the model has no such variable; it has ", known);
  });
  found->role = Role::frozen_parameter;
}

}  // namespace lockstep
