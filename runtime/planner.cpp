// SPDX-License-Identifier: Apache-2.0
#include "runtime/planner.h"

#include <algorithm>
#include <utility>

#include "runtime/plan_check.h"

namespace lockstep {
namespace {

// Variables start on 128 bytes, so that vector loads are aligned and ranges of two ranks share no cache line.
constexpr int64_t kAlignElements = 32;

int64_t round_up(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

// Each rule answers one question from role, dtype and shape. Rank 0 answers the layout and nothing else: a trainable
// scalar is on the tape and reduced like any weight.

Decision decide_layout(const VariableDeclaration& variable, Layout& layout) {
  if (variable.layout) {
    check(variable.layout->axes.size() == size_t(variable.shape.rank()), ErrorCode::plan, [&] {
      return str("variable ", variable.path, " of shape ", to_string(variable.shape), " was given the layout ",
                 to_string(*variable.layout), "; a layout has one entry per dimension");
    });
    check(variable.layout->is_replicated(), ErrorCode::plan, [&] {
      return str("variable ", variable.path, " was given the layout ", to_string(*variable.layout),
                 "; this version trains replicated variables only: use ",
                 to_string(Layout::replicated(variable.shape.rank())));
    });
    layout = *variable.layout;
    return {"layout", to_string(layout), "L1", "the layout was given by hand and is kept"};
  }
  layout = Layout::replicated(variable.shape.rank());
  if (variable.shape.rank() == 0)
    return {"layout", "[] replicated", "L2", "a scalar has no dimension to split: its layout is explicitly empty"};
  return {"layout", to_string(layout) + " replicated", "L3",
          "data parallelism splits the batch and keeps every variable whole"};
}

Decision decide_tape(Role role, bool& on_tape) {
  on_tape = role == Role::parameter;
  if (on_tape) return {"tape", "yes", "T1", "role parameter: the loss is differentiated with respect to it"};
  return {"tape", "no", "T2", str("role ", to_string(role), ": only role parameter is differentiated")};
}

Decision decide_gradient_sync(Role role, bool& in_sync) {
  in_sync = role == Role::parameter;
  if (in_sync)
    return {"gradient sync", "yes", "G1", "every trainable variable has its gradient summed over the data axis"};
  return {"gradient sync", "no", "G2", str("role ", to_string(role), ": without a gradient there is nothing to sum")};
}

Decision decide_aggregation(Role role, Aggregation& aggregation) {
  if (role == Role::counter || role == Role::hyperparameter) {
    aggregation = Aggregation::only_first_replica;
    return {"aggregation", "only_first_replica", "A1",
            "every rank advances it alike: rank 0's value is broadcast at the start, later there is no traffic"};
  }
  aggregation = Aggregation::none;
  return {"aggregation", "none", "A2", "equal on all ranks by construction: equal start, equal updates"};
}

Decision decide_residence(Section section) {
  if (section == Section::scalars) return {"residence", "host, each rank", "R1", "eight bytes: a replica in each rank"};
  return {"residence", "one copy per node", "R2", "ranks of a node share the memory; each updates its slice"};
}

PlannedVariable planned(const VariableDeclaration& variable, Section section) {
  PlannedVariable result;
  result.path = variable.path;
  result.shape = variable.shape;
  result.dtype = variable.dtype;
  result.role = variable.role;
  result.section = section;
  result.offset = 0;
  result.decisions.push_back(decide_layout(variable, result.layout));
  result.decisions.push_back(decide_tape(variable.role, result.on_tape));
  result.decisions.push_back(decide_gradient_sync(variable.role, result.in_gradient_sync));
  result.decisions.push_back(decide_aggregation(variable.role, result.aggregation));
  result.decisions.push_back(decide_residence(section));
  return result;
}

void add_model_variables(const PlannerInput& input, Plan& plan) {
  std::string frozen;
  bool any_trainable = false;
  for (const VariableDeclaration& variable : input.variables.declarations()) {
    check(variable.dtype == DType::f32, ErrorCode::plan, [&] {
      return str("variable ", variable.path, " has dtype ", to_string(variable.dtype),
                 "; this version trains f32 models only");
    });
    plan.variables.push_back(planned(variable, variable.trainable() ? Section::trainable : Section::frozen));
    any_trainable |= variable.trainable();
    if (!variable.trainable()) frozen += (frozen.empty() ? "" : ", ") + variable.path;
  }
  check(any_trainable, ErrorCode::plan, [&] {
    return str("nothing to train: the model has no variable of role parameter; ",
               frozen.empty() ? std::string("it has no variables") : "frozen are " + frozen,
               "; declare or unfreeze at least one");
  });
}

// Gradients become final in about the reverse order of declaration, so buckets are filled in that order.
void place_parameters(const PlannerInput& input, Plan& plan) {
  int64_t offset = 0;
  PlannedBucket bucket{0, 0, {}};
  const auto close = [&] {
    offset = round_up(offset, kAlignElements * input.ranks);
    bucket.end = offset;
    plan.buckets.push_back(std::exchange(bucket, {offset, offset, {}}));
  };
  for (size_t i = plan.variables.size(); i-- > 0;) {
    PlannedVariable& variable = plan.variables[i];
    if (!variable.in_gradient_sync) {
      variable.offset = plan.frozen_elements;
      plan.frozen_elements = round_up(plan.frozen_elements + variable.shape.size(), kAlignElements);
      continue;
    }
    variable.offset = offset;
    variable.bucket = int32_t(plan.buckets.size());
    variable.decisions.push_back({"bucket", str(variable.bucket), "B1",
                                  str("filled in reverse order of declaration up to ", input.bucket_bytes, " bytes")});
    bucket.variables.push_back(int32_t(i));
    offset = round_up(offset + variable.shape.size(), kAlignElements);
    if ((offset - bucket.begin) * size_of(DType::f32) >= input.bucket_bytes) close();
  }
  if (!bucket.variables.empty()) close();
  plan.arena_elements = offset;
}

void add_slots(const PlannerInput& input, Plan& plan) {
  const auto slots = input.optimizer.slots();
  const size_t model_variables = plan.variables.size();
  for (size_t i = 0; i < model_variables; ++i) {
    if (!plan.variables[i].in_gradient_sync) continue;
    for (size_t s = 0; s < slots.size(); ++s) {
      const PlannedVariable& parameter = plan.variables[i];
      VariableDeclaration declaration{str(parameter.path, "/", input.optimizer.name(), "/", slots[s].name),
                                      parameter.shape,
                                      slots[s].dtype,
                                      Role::slot,
                                      Initializer::constant(slots[s].initial),
                                      {}};
      PlannedVariable slot = planned(declaration, Section::slot);
      slot.layout = parameter.layout;
      slot.decisions[0] = {"layout", to_string(slot.layout) + " replicated", "L4",
                           str("a slot has the layout of its parameter ", parameter.path)};
      slot.slot = int32_t(s);
      slot.offset = parameter.offset;
      plan.variables.push_back(std::move(slot));
    }
  }
}

void add_scalars(const PlannerInput& input, Plan& plan) {
  const std::string prefix = std::string(input.optimizer.name());
  const auto add = [&](std::string_view name, DType dtype, Role role, int64_t cell) {
    plan.variables.push_back(planned({str(prefix, "/", name), Shape{}, dtype, role, {}, {}}, Section::scalars));
    plan.variables.back().offset = cell;
  };
  add("iteration", DType::i64, Role::counter, 0);
  add("learning_rate", DType::f64, Role::hyperparameter, 1);
}

std::string_view reduce_name(ReduceMode mode) {
  return mode == ReduceMode::tree ? "tree" : mode == ReduceMode::fast ? "fast" : "mpi";
}

int leaf_count(const PlannerInput& input) {
  return input.reduce == ReduceMode::tree ? input.virtual_ranks : int(input.ranks);
}

void add_collectives(const PlannerInput& input, Plan& plan) {
  const int64_t leaves = leaf_count(input);
  plan.collectives.push_back(
      {"all_reduce", DType::f64, "data", 2 * leaves * size_of(DType::f64), "loss and right answers of every leaf"});
  for (size_t b = 0; b < plan.buckets.size(); ++b)
    plan.collectives.push_back({input.reduce == ReduceMode::mpi ? "all_reduce" : "reduce_scatter", DType::f32, "data",
                                (plan.buckets[b].end - plan.buckets[b].begin) * size_of(DType::f32),
                                str("gradients of bucket ", b)});
}

}  // namespace

Plan make_plan(const PlannerInput& input) {
  check(input.ranks >= 1, ErrorCode::plan, [&] { return str("expected at least 1 rank, got ", input.ranks); });
  check(input.virtual_ranks >= 1, ErrorCode::plan,
        [&] { return str("expected at least 1 virtual rank, got ", input.virtual_ranks); });
  Plan plan{};
  plan.mesh = {{"data", int(input.ranks)}};
  plan.optimizer = std::string(input.optimizer.name());
  plan.reduce = std::string(reduce_name(input.reduce));
  plan.virtual_ranks = input.virtual_ranks;
  add_model_variables(input, plan);
  place_parameters(input, plan);
  add_slots(input, plan);
  add_scalars(input, plan);
  add_collectives(input, plan);

  int64_t scalar_cells = 0;
  for (const PlannedVariable& variable : plan.variables) scalar_cells += variable.section == Section::scalars;
  const int64_t arena_bytes = plan.arena_elements * size_of(DType::f32);
  plan.memory = {.parameters = arena_bytes + plan.frozen_elements * size_of(DType::f32),
                 .slots = arena_bytes * int64_t(input.optimizer.slots().size()),
                 .gradients = arena_bytes * gradient_arenas(input.ranks, leaf_count(input)),
                 .scalars = scalar_cells * 8};
  check_plan(plan);
  return plan;
}

}  // namespace lockstep
