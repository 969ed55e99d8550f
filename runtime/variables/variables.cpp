// SPDX-License-Identifier: Apache-2.0
#include "runtime/variables/variables.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/device/known_name.h"

namespace lockstep {
namespace {

constexpr std::array<std::string_view, kRoles> kRoleNames = {
    "parameter", "frozen_parameter",  "slot",         "counter",     "hyperparameter", "loss_scale",
    "statistic", "statistic_counter", "random_state", "data_cursor", "metric"};
constexpr std::array<std::string_view, kAggregations> kAggregationNames = {"none", "only_first_replica", "mean", "sum",
                                                                           "max"};

template <class Enum, size_t N>
Enum parse_name(std::string_view what, std::string_view name, const std::array<std::string_view, N>& names) {
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end()) fail_unknown(what, name, names, list_of(names), ErrorCode::plan);
  return Enum(found - names.begin());
}

// Why the dtype does not go with the role; empty when it does.
std::string wrong_dtype(Role role, DType dtype) {
  switch (role) {
    case Role::parameter:
      if (dtype == DType::f32 || is_narrow(dtype)) return "";
      return "only f32, bf16 and f16 can be trained: use another dtype or a role such as frozen_parameter";
    case Role::counter:
      return dtype == DType::i64 ? "" : "counters are i64, which stays exact beyond 2^24 steps";
    case Role::statistic_counter:
    case Role::data_cursor:
    case Role::random_state:
      return dtype == DType::i64 ? "" : "it counts, and counts are i64";
    case Role::hyperparameter:
      return dtype == DType::f64 ? "" : "hyperparameters are f64, as bias correction is computed in double";
    case Role::loss_scale:
      return dtype == DType::f32 || dtype == DType::f64 ? "" : "a loss scale is f32 or f64";
    case Role::slot:
    case Role::statistic:
      return is_floating(dtype) ? "" : "it is a moving value, so it needs a floating dtype";
    case Role::frozen_parameter:
    case Role::metric:
      return "";
  }
  return "";
}

// Whether a declaration of this role may ask for this aggregation.
bool may_choose(Role role, Aggregation aggregation) {
  if (role == Role::statistic)
    return aggregation == Aggregation::mean || aggregation == Aggregation::only_first_replica;
  if (role == Role::metric)
    return aggregation == Aggregation::sum || aggregation == Aggregation::mean || aggregation == Aggregation::max;
  return false;
}

void check_aggregation(const VariableDeclaration& variable) {
  check(variable.role != Role::statistic || variable.aggregation, ErrorCode::plan, [&] {
    return str("variable ", variable.path,
               " is a statistic, whose replicas differ by rank: declare how they become one ",
               "value, aggregation mean or only_first_replica");
  });
  if (!variable.aggregation) return;
  check(may_choose(variable.role, *variable.aggregation), ErrorCode::plan, [&] {
    return str("variable ", variable.path, " of role ", to_string(variable.role), " was declared with aggregation ",
               to_string(*variable.aggregation),
               variable.role == Role::statistic ? "; a statistic takes mean or only_first_replica"
               : variable.role == Role::metric  ? "; a metric takes sum, mean or max"
                                                : "; this role decides the aggregation: leave it out");
  });
  check(*variable.aggregation != Aggregation::mean || is_floating(variable.dtype), ErrorCode::plan, [&] {
    return str("variable ", variable.path, " has aggregation mean and dtype ", to_string(variable.dtype),
               "; the mean of integers is no integer: use a floating dtype, sum or max");
  });
}

// Shape keeps sizes apart from their product, which must not overflow.
void check_size(const VariableDeclaration& variable) {
  constexpr int64_t kMost = int64_t(1) << 48;  // elements; a byte count with all slots then fits 63 bits
  int64_t elements = 1;
  for (const int64_t size : variable.shape.sizes()) {
    check(size == 0 || elements <= kMost / size, ErrorCode::plan, [&] {
      return str("variable ", variable.path, " of shape ", to_string(variable.shape), " has more than ", kMost,
                 " elements; check its shape");
    });
    elements *= size;
  }
}

void check_declaration(const VariableDeclaration& variable) {
  check(size_t(variable.role) < size_t(kRoles), ErrorCode::plan,
        [&] { return str("variable ", variable.path, " has a role that does not exist: ", int(variable.role)); });
  const std::string dtype = wrong_dtype(variable.role, variable.dtype);
  check(dtype.empty(), ErrorCode::plan, [&] {
    return str("variable ", variable.path, " has role ", to_string(variable.role), " and dtype ",
               to_string(variable.dtype), "; ", dtype);
  });
  check_aggregation(variable);
  const bool scalar_role =
      variable.role == Role::counter || variable.role == Role::hyperparameter || variable.role == Role::loss_scale;
  check(!scalar_role || (!variable.shape_pending && variable.shape.rank() == 0), ErrorCode::plan, [&] {
    return str("variable ", variable.path, " has role ", to_string(variable.role), " and shape ",
               variable.shape_pending ? std::string("unknown") : to_string(variable.shape),
               "; it is a scalar, of shape []");
  });
  if (!variable.shape_pending) check_size(variable);
}

}  // namespace

std::string_view to_string(Role role) { return kRoleNames[size_t(role)]; }
Role parse_role(std::string_view name) { return parse_name<Role>("role", name, kRoleNames); }
std::string_view to_string(Aggregation aggregation) { return kAggregationNames[size_t(aggregation)]; }
Aggregation parse_aggregation(std::string_view name) {
  return parse_name<Aggregation>("aggregation", name, kAggregationNames);
}

bool is_bookkeeping(Role role) {
  return role != Role::parameter && role != Role::frozen_parameter && role != Role::slot;
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
  check(!paths_.contains(declaration.path), ErrorCode::plan,
        [&] { return str("variable ", declaration.path, " is declared twice; paths are unique"); });
  check_declaration(declaration);
  if (!declaration.distribution) declaration.distribution = scope_;
  paths_.insert(declaration.path);
  declarations_.push_back(std::move(declaration));
  return {int32_t(declarations_.size()) - 1};
}

int64_t VariableTable::parameter_count() const {
  int64_t count = 0;
  for (const VariableDeclaration& declaration : declarations_)
    if (!declaration.shape_pending) count += declaration.shape.size();
  return count;
}

VariableDeclaration& VariableTable::find(std::string_view path, std::string_view verb) {
  const auto found =
      std::find_if(declarations_.begin(), declarations_.end(), [&](const auto& d) { return d.path == path; });
  check(found != declarations_.end(), ErrorCode::plan, [&] {
    std::string known;
    for (const VariableDeclaration& d : declarations_) known += (known.empty() ? "" : ", ") + d.path;
    return str("cannot ", verb, " ", path, ": the model has no such variable; it has ", known);
  });
  check(found->role == Role::parameter || found->role == Role::frozen_parameter, ErrorCode::plan, [&] {
    return str("cannot ", verb, " ", path, ": it has role ", to_string(found->role), ", and only weights are trained");
  });
  return *found;
}

void VariableTable::freeze(std::string_view path) { find(path, "freeze").role = Role::frozen_parameter; }

void VariableTable::unfreeze(std::string_view path) {
  VariableDeclaration& variable = find(path, "unfreeze");
  VariableDeclaration trained = variable;
  trained.role = Role::parameter;
  check_declaration(trained);
  variable = std::move(trained);
}

void VariableTable::narrow_weights(DType dtype) {
  check(is_narrow(dtype), ErrorCode::plan,
        [&] { return str("cannot keep weights in ", to_string(dtype), "; expected bf16 or f16"); });
  for (VariableDeclaration& variable : declarations_)
    if ((variable.role == Role::parameter || variable.role == Role::frozen_parameter) && variable.dtype == DType::f32 &&
        variable.shape.rank() >= 2)
      variable.dtype = dtype;
}

void VariableTable::set_shape(Variable variable, const Shape& shape) {
  VariableDeclaration& declaration = declarations_.at(size_t(variable.index));
  check(declaration.shape_pending, ErrorCode::plan, [&] {
    return str("variable ", declaration.path, " has the shape ", to_string(declaration.shape),
               " already; a shape is told once");
  });
  VariableDeclaration known = declaration;
  known.shape = shape;
  known.shape_pending = false;
  check_declaration(known);
  declaration = std::move(known);
}

DistributionScope::DistributionScope(VariableTable& variables, Distribution distribution)
    : variables_(variables),
      before_(std::exchange(variables.scope_, std::make_shared<const Distribution>(std::move(distribution)))) {}

}  // namespace lockstep
