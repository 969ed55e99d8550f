// SPDX-License-Identifier: Apache-2.0
#include "tests/runtime/plan/brute_force.h"

#include <algorithm>
#include <map>
#include <set>

namespace lockstep {

World::World(const PlanSettings& settings) : mesh(settings.mesh) {
  for (const MeshAxis& axis : mesh) ranks *= axis.size;
  batch_axis = find(settings.batch_axis);
  parts = mesh.at(batch_axis).size;
  for (int rank = 0; rank < ranks; ++rank) {
    int rest = rank, slower = ranks;
    for (const MeshAxis& axis : mesh) {
      slower /= axis.size;
      coordinates.push_back(rest / slower);
      rest %= slower;
    }
  }
}

size_t World::find(std::string_view axis) const {
  size_t i = 0;
  while (i < mesh.size() && mesh[i].name != axis) ++i;
  return i;
}

std::vector<int> World::group(int rank, size_t axis) const {
  std::vector<int> members;
  for (int other = 0; other < ranks; ++other) {
    bool alike = true;
    for (size_t a = 0; a < mesh.size(); ++a) alike &= a == axis || at(other, a) == at(rank, a);
    if (alike) members.push_back(other);
  }
  return members;
}

namespace {

// Whether a pattern of text and ".*" matches a whole path.
bool matches(std::string_view pattern, std::string_view path) {
  const size_t star = pattern.find(".*");
  if (star == std::string_view::npos) return pattern == path;
  if (path.substr(0, star) != pattern.substr(0, star)) return false;
  for (size_t skip = star; skip <= path.size(); ++skip)
    if (matches(pattern.substr(star + 2), path.substr(skip))) return true;
  return false;
}

bool fits(const World& world, const Layout& layout, const Shape& shape) {
  if (int(layout.axes.size()) != shape.rank()) return false;
  std::set<size_t> used;
  for (int d = 0; d < shape.rank(); ++d) {
    if (layout.axes[size_t(d)].empty()) continue;
    const size_t axis = world.find(layout.axes[size_t(d)]);
    if (axis == world.mesh.size() || !used.insert(axis).second || shape[d] % world.mesh[axis].size != 0) return false;
  }
  return true;
}

Layout expected_layout(const PlannerInput& input, const World& world, const PlannedVariable& v,
                       const VariableDeclaration* declaration, const Plan& plan) {
  if (declaration && declaration->layout) return *declaration->layout;
  const std::vector<std::string> whole(static_cast<size_t>(v.shape.rank()));
  if (v.shape.rank() == 0) return {};
  if (v.role == Role::slot) return plan.variables.at(size_t(v.parameter)).layout;
  const LayoutRule *exact = nullptr, *pattern = nullptr;
  for (const LayoutRule& rule : input.settings.layout_rules) {
    if (rule.pattern == v.path)
      exact = &rule;
    else if (matches(rule.pattern, v.path))
      pattern = &rule;
  }
  const LayoutRule* rule = exact ? exact : pattern;
  if (!rule || (input.settings.replicate_indivisible && !fits(world, rule->layout, v.shape))) return {whole};
  return rule->layout;
}

// One rank's shard: a range of indices in every dimension.
using Box = std::vector<std::pair<int64_t, int64_t>>;

Box shard_of(const World& world, const PlannedVariable& v, int rank) {
  Box box;
  for (int d = 0; d < v.shape.rank(); ++d) {
    const std::string& name = v.layout.axes[size_t(d)];
    int64_t parts = 1, part = 0;
    if (!name.empty()) {
      const size_t axis = world.find(name);
      parts = world.mesh[axis].size, part = world.at(rank, axis);
    }
    box.emplace_back(part * v.shape[d] / parts, (part + 1) * v.shape[d] / parts);
  }
  return box;
}

// Counts the elements of a box in row-major order.
void mark(const Shape& shape, const Box& box, std::vector<uint8_t>& held, size_t dimension = 0, int64_t at = 0) {
  if (dimension == box.size()) {
    ++held[size_t(at)];
    return;
  }
  for (int64_t i = box[dimension].first; i < box[dimension].second; ++i)
    mark(shape, box, held, dimension + 1, at * shape[int(dimension)] + i);
}

// Shards are disjoint, cover the variable, have the planned size on every rank, and each has as many replicas.
void expect_shards(const World& world, const PlannedVariable& v) {
  std::map<Box, int> replicas;
  for (int rank = 0; rank < world.ranks; ++rank) {
    const Box box = shard_of(world, v, rank);
    int64_t elements = 1;
    for (const auto& [begin, end] : box) elements *= end - begin;
    expect_that(elements == v.local_elements, [&] {
      return str("I2: ", v.path, " has ", elements, " elements in rank ", rank, ", planned are ", v.local_elements);
    });
    ++replicas[box];
    if (v.layout.is_replicated()) break;  // every rank computes the same box
  }
  std::vector<uint8_t> held(size_t(v.shape.size()));
  for (const auto& [box, count] : replicas) {
    mark(v.shape, box, held);
    expect_that(count == replicas.begin()->second,
                [&] { return str("I2: shards of ", v.path, " have unequal numbers of replicas"); });
  }
  for (const uint8_t count : held)
    expect_that(count == 1, [&] { return str("I2: an element of ", v.path, " is in ", int(count), " shards"); });
}

Aggregation expected_aggregation(const PlannedVariable& v, const VariableDeclaration* declaration) {
  if (declaration && declaration->aggregation) return *declaration->aggregation;
  static const std::map<Role, Aggregation> table = {{Role::parameter, Aggregation::none},
                                                    {Role::frozen_parameter, Aggregation::none},
                                                    {Role::slot, Aggregation::none},
                                                    {Role::counter, Aggregation::only_first_replica},
                                                    {Role::hyperparameter, Aggregation::only_first_replica},
                                                    {Role::loss_scale, Aggregation::max},
                                                    {Role::statistic_counter, Aggregation::only_first_replica},
                                                    {Role::random_state, Aggregation::only_first_replica},
                                                    {Role::data_cursor, Aggregation::only_first_replica},
                                                    {Role::metric, Aggregation::sum}};
  return table.at(v.role);
}

Residence expected_residence(const PlannerInput& input, const World& world, const PlannedVariable& v) {
  const bool array = v.role == Role::parameter || v.role == Role::frozen_parameter || v.role == Role::slot;
  if (!array) return Residence::each_rank;
  bool by_batch = false;
  for (const std::string& axis : v.layout.axes) by_batch |= axis == world.mesh[world.batch_axis].name;
  const bool state = v.role == Role::slot && input.settings.zero > 0,
             weight = v.role == Role::parameter && input.settings.zero == 3;
  if ((state || weight) && !by_batch) return Residence::split;
  return input.settings.copies == Copies::per_node ? Residence::one_per_node : Residence::one_per_rank;
}

void expect_decisions(const PlannerInput& input, const Plan& plan, const World& world, const PlannedVariable& v,
                      const VariableDeclaration* declaration) {
  const bool trained = declaration && declaration->role == Role::parameter;
  expect_that(v.on_tape == trained && (!trained || is_floating(v.dtype)),
              [&] { return str("I3: ", v.path, " is ", v.on_tape ? "on" : "off", " the tape"); });
  expect_that(v.in_gradient_sync == trained,
              [&] { return str("I4: ", v.path, " is ", v.in_gradient_sync ? "in" : "outside", " gradient sync"); });
  const Layout layout = expected_layout(input, world, v, declaration, plan);
  expect_that(fits(world, v.layout, v.shape) && v.layout == layout, [&] {
    return str("I2: ", v.path, " has layout ", to_string(v.layout), ", expected is ", to_string(layout));
  });
  expect_that(v.aggregation == expected_aggregation(v, declaration),
              [&] { return str("I5: ", v.path, " has aggregation ", to_string(v.aggregation)); });
  expect_that(v.residence == expected_residence(input, world, v),
              [&] { return str("I12: ", v.path, " has residence ", to_string(v.residence)); });
  expect_that(!(declaration && declaration->layout) || v.rules[size_t(Question::layout)] == "L1",
              [&] { return str("I2: the layout of ", v.path, " is not the one given by hand"); });
  for (const std::string_view rule : v.rules)
    expect_that(!rule.empty(), [&] { return str("I1: ", v.path, " was decided without a rule"); });
}

void expect_optimizer_state(const PlannerInput& input, const Plan& plan) {
  std::multiset<std::string> expected, found;
  const auto row = [](std::string_view path, Role role, DType dtype, const Shape& shape, int64_t offset) {
    return str(path, " ", to_string(role), " ", to_string(dtype), " ", to_string(shape), " at ", offset);
  };
  const std::string name(input.optimizer.name());
  for (const PlannedVariable& v : plan.variables) {
    if (v.role == Role::slot) found.insert(row(v.path, v.role, v.dtype, v.shape, v.offset));
    if (v.by_optimizer && v.role != Role::slot) found.insert(row(v.path, v.role, v.dtype, v.shape, 0));
    if (v.role != Role::parameter) continue;
    for (const Slot& slot : input.optimizer.slots())
      expected.insert(row(str(v.path, "/", name, "/", slot.name), Role::slot, slot.dtype, v.shape, v.offset));
    if (v.dtype != DType::f32 && !input.settings.stochastic_rounding)
      expected.insert(row(str(v.path, "/", name, "/master"), Role::slot, DType::f32, v.shape, v.offset));
  }
  expected.insert(row(name + "/iteration", Role::counter, DType::i64, {}, 0));
  expected.insert(row(name + "/learning_rate", Role::hyperparameter, DType::f64, {}, 0));
  for (const ScalarState& scalar : input.optimizer.scalars())
    expected.insert(row(str(name, "/", scalar.name), Role::hyperparameter, DType::f64, {}, 0));
  for (const std::string& each : expected)
    expect_that(found.contains(each), [&] { return "I12: the plan lacks " + each; });
  for (const std::string& each : found)
    expect_that(expected.count(each) == found.count(each), [&] { return "I12: the optimizer has no " + each; });
}

void expect_reported(const PlannerInput& input, const Plan& plan) {
  for (const LayoutRule& rule : input.settings.layout_rules) {
    const bool used = std::any_of(plan.variables.begin(), plan.variables.end(), [&](const PlannedVariable& v) {
      return v.role != Role::slot && matches(rule.pattern, v.path);
    });
    const bool warned = std::any_of(plan.warnings.begin(), plan.warnings.end(), [&](const std::string& warning) {
      return warning.find("'" + rule.pattern + "'") != std::string::npos &&
             warning.find("matched no variable") != std::string::npos;
    });
    expect_that(used != warned, [&] { return str("I1: the rule ", rule.pattern, " is used or reported, not both"); });
  }
}

}  // namespace

void expect_variables(const PlannerInput& input, const Plan& plan, const World& world) {
  size_t next = 0;
  for (const VariableDeclaration& declared : input.variables.declarations()) {
    if (declared.shape_pending) continue;
    expect_that(next < plan.variables.size(), [&] { return str("I1: ", declared.path, " was not planned"); });
    const PlannedVariable& v = plan.variables[next++];
    expect_that(v.path == declared.path && v.shape == declared.shape && v.dtype == declared.dtype &&
                    v.role == declared.role && !v.by_optimizer,
                [&] { return str("I3: ", declared.path, " was planned as ", v.path, ", ", to_string(v.role)); });
    expect_decisions(input, plan, world, v, &declared);
    expect_shards(world, v);
  }
  for (size_t i = next; i < plan.variables.size(); ++i) {
    const PlannedVariable& v = plan.variables[i];
    expect_that(v.by_optimizer, [&] { return str("I1: nobody declared ", v.path); });
    expect_that(v.role != Role::slot || (v.parameter >= 0 && size_t(v.parameter) < next),
                [&] { return str("I13: ", v.path, " has no parameter"); });
    expect_decisions(input, plan, world, v, nullptr);
    expect_shards(world, v);
  }
  expect_optimizer_state(input, plan);
  expect_reported(input, plan);
}

std::string brute_force(const PlannerInput& input, const Plan& plan) {
  try {
    const World world(plan.settings);
    expect_variables(input, plan, world);
    expect_places(plan, world);
    expect_collectives(plan, world);
    expect_memory(input, plan, world);
  } catch (const Violation& violation) {
    return violation.what;
  }
  return "";
}

}  // namespace lockstep
