// SPDX-License-Identifier: Apache-2.0
// Variables as they are declared: name, shape, dtype and a mandatory role. Declaring allocates nothing; the planner
// turns declarations into a plan, and memory exists only after that.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <vector>

#include "kernels/device/view.h"
#include "runtime/variables/distribution.h"
#include "runtime/variables/layout.h"

namespace lockstep {

// What a variable is for: a closed set without default. Tape, gradient sync, aggregation and residence follow from role
// and dtype, never from rank or name. Gradients are no variables: they are ranges of an arena that the plan lays out.
enum class Role : uint8_t {
  parameter,          // trainable weight: on the tape and in gradient sync, whatever its rank
  frozen_parameter,   // weight that is not trained
  slot,               // optimizer state in the shape of a parameter
  counter,            // counts committed steps; i64
  hyperparameter,     // learning rate and the like; f64
  loss_scale,         // factor on the loss; all ranks must decide on it alike
  statistic,          // running mean or variance of what ranks have seen; its aggregation is declared
  statistic_counter,  // how many batches a statistic has seen; i64
  random_state,       // position of a random stream; i64
  data_cursor,        // position in the data; i64
  metric,             // what ranks count for themselves, such as right answers; summed when read
};
inline constexpr int kRoles = 11;
std::string_view to_string(Role role);
// Throws Error(plan) with the nearest known name.
Role parse_role(std::string_view name);
// Whether the role is state of the run rather than of the model: a replica in each rank, never in a bucket.
bool is_bookkeeping(Role role);

// How the replicas of a variable become one value.
enum class Aggregation : uint8_t {
  none,                // identical by construction: every rank computes the same from the same
  only_first_replica,  // rank 0's value holds: broadcast at start and after restoring, then advanced alike everywhere
  mean,                // mean of all ranks, taken when read; local values stay as they are
  sum,                 // over all ranks, taken when read; local values stay as they are
  max,                 // over all ranks, taken when read; local values stay as they are
};
inline constexpr int kAggregations = 5;
std::string_view to_string(Aggregation aggregation);
Aggregation parse_aggregation(std::string_view name);

// The first values of a variable: a pure function of (seed, path, shape).
struct Initializer {
  enum class Kind : uint8_t { constant, uniform, normal } kind = Kind::constant;
  double value = 0;  // the constant, or the bound: uniform in [-value, value), or the standard deviation about 0

  static Initializer constant(double value) { return {Kind::constant, value}; }
  static Initializer normal(double deviation) { return {Kind::normal, deviation}; }
  // Glorot & Bengio 2010: the bound is sqrt(6 / (fan_in + fan_out)).
  static Initializer glorot_uniform(int64_t fan_in, int64_t fan_out);
};

struct VariableDeclaration {
  std::string path;  // unique, "layer/weight"
  Shape shape;
  DType dtype = DType::f32;
  Role role;
  Initializer initializer;
  std::optional<Layout> layout;  // given by hand; kept as it is
  std::optional<Aggregation> aggregation =
      std::nullopt;  // for roles that leave a choice: statistic (must be given) and metric
  // The shape is not known yet, and `shape` means nothing. Planned once set_shape() has told it, never as a scalar.
  bool shape_pending = false;
  // The scope it was declared in; null outside all scopes, where the plan's distribution holds.
  std::shared_ptr<const Distribution> distribution = nullptr;
  // Weight decay leaves it alone unless a group rule says otherwise: biases and gains of language models.
  bool undecayed = false;

  bool trainable() const { return role == Role::parameter; }
};

// Names one declared variable of a table.
struct Variable {
  int32_t index = -1;
};

// The variables of a model in order of declaration.
class VariableTable {
 public:
  // Throws Error(plan) for an empty or known path, for a role that does not go with dtype, shape or aggregation (a
  // trainable integer, the mean of an integer), and for a size that does not fit 63 bits.
  Variable declare(VariableDeclaration declaration);
  Variable parameter(std::string path, const Shape& shape, Initializer initializer) {
    return declare({std::move(path), shape, DType::f32, Role::parameter, initializer, {}});
  }
  // A trainable variable that weight decay leaves alone.
  Variable undecayed_parameter(std::string path, const Shape& shape, Initializer initializer) {
    return declare({.path = std::move(path),
                    .shape = shape,
                    .role = Role::parameter,
                    .initializer = initializer,
                    .layout = {},
                    .undecayed = true});
  }
  // Makes a trainable variable frozen, or a frozen one trainable. Throws Error(plan) when no variable has this path or
  // it has another role.
  void freeze(std::string_view path);
  void unfreeze(std::string_view path);
  // Keeps f32 weights of two or more dimensions, trained or frozen, in this dtype: bf16 or f16. Vectors and scalars
  // (biases, gains) stay as they are: they hardly count, and rounding them costs accuracy.
  void narrow_weights(DType dtype);
  // Tells the shape of a variable that was declared without one; once.
  void set_shape(Variable variable, const Shape& shape);

  int64_t parameter_count() const;  // elements of all variables whose shape is known
  const std::vector<VariableDeclaration>& declarations() const { return declarations_; }
  const VariableDeclaration& operator[](Variable variable) const { return declarations_[size_t(variable.index)]; }

 private:
  friend class DistributionScope;
  VariableDeclaration& find(std::string_view path, std::string_view verb);

  std::vector<VariableDeclaration> declarations_;
  std::unordered_set<std::string> paths_;
  std::shared_ptr<const Distribution> scope_;  // the innermost scope
};

// While it lives, variables declared in the table belong to this distribution; then, also after an exception, the
// previous one holds again. Scopes nest. A scope belongs to its table: other tables and threads see nothing.
class DistributionScope {
 public:
  DistributionScope(VariableTable& variables, Distribution distribution);
  DistributionScope(const DistributionScope&) = delete;
  DistributionScope& operator=(const DistributionScope&) = delete;
  ~DistributionScope() { variables_.scope_ = std::move(before_); }

 private:
  VariableTable& variables_;
  std::shared_ptr<const Distribution> before_;
};

}  // namespace lockstep
