// SPDX-License-Identifier: Apache-2.0
// Variables as they are declared: name, shape, dtype and a mandatory role. Declaring allocates nothing; the planner
// turns declarations into a plan, and only then memory exists.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/device/view.h"
#include "runtime/layout.h"

namespace lockstep {

// What a variable is for. A closed set without default: tape, gradient sync, aggregation and residence follow from role
// and dtype, never from rank or name.
enum class Role : uint8_t {
  parameter,         // trainable weight: on the tape and in gradient sync, whatever its rank
  frozen_parameter,  // weight that is not trained
  slot,              // optimizer state of the shape of a parameter
  counter,           // counts committed steps; int64
  hyperparameter,    // learning rate and the like
};
std::string_view to_string(Role role);

// How the replicas of a variable become one value.
enum class Aggregation : uint8_t {
  none,                // identical by construction: every rank computes the same from the same
  only_first_replica,  // rank 0's value holds: broadcast at start, then advanced alike everywhere
};
std::string_view to_string(Aggregation aggregation);

// First values of a variable: a pure function of (seed, path, shape).
struct Initializer {
  enum class Kind : uint8_t { constant, uniform } kind = Kind::constant;
  double value = 0;  // the constant, or the bound: uniform in [-value, value)

  static Initializer constant(double value) { return {Kind::constant, value}; }
  // Glorot & Bengio 2010: bound sqrt(6 / (fan_in + fan_out)).
  static Initializer glorot_uniform(int64_t fan_in, int64_t fan_out);
};

struct VariableDeclaration {
  std::string path;  // unique, "layer/weight"
  Shape shape;
  DType dtype = DType::f32;
  Role role;
  Initializer initializer;
  std::optional<Layout> layout;  // given by hand; kept as it is

  bool trainable() const { return role == Role::parameter; }
};

// Names one declared variable of a table.
struct Variable {
  int32_t index = -1;
};

// The variables of a model in order of declaration.
class VariableTable {
 public:
  // Throws Error(plan) for an empty or known path and for a role that does not go with the dtype (a trainable integer).
  Variable declare(VariableDeclaration declaration);
  Variable parameter(std::string path, const Shape& shape, Initializer initializer) {
    return declare({std::move(path), shape, DType::f32, Role::parameter, initializer, {}});
  }
  // Makes a trainable variable a frozen one. Throws Error(plan) when no variable has this path.
  void freeze(std::string_view path);

  int64_t parameter_count() const;  // elements of all variables
  const std::vector<VariableDeclaration>& declarations() const { return declarations_; }
  const VariableDeclaration& operator[](Variable variable) const { return declarations_[size_t(variable.index)]; }

 private:
  std::vector<VariableDeclaration> declarations_;
};

}  // namespace lockstep
