// SPDX-License-Identifier: Apache-2.0
// Planners with one rule broken.
#include <algorithm>

#include "tests/runtime/plan/mutant_tables.h"

namespace lockstep {
namespace {

using enum Machine;

// A planner that takes this aggregation for all variables of the role.
Mutant aggregates(std::string name, Role role, std::string_view id, std::string notices) {
  return {std::move(name),
          cpu_ranks,
          [role, id](RuleSet& rules) { steals(rules, id, has_role(role)); },
          {},
          std::move(notices)};
}

bool has_rank(const RuleCase& c) { return c.variable.shape.rank() > 0; }

void decides_layout(RuleSet& rules, std::string_view id, const Layout& layout) {
  rule(rules, id).decide = [layout](const RuleCase&, PlannedVariable& out) { out.layout = layout; };
}

}  // namespace

std::vector<Mutant> five_tempting_fixes() {
  return {
      {"T1: the counter requires a gradient",
       cpu_ranks,
       [](RuleSet& rules) { steals(rules, "T1", has_role(Role::counter)); },
       {},
       "must be off the tape"},
      {"T2: the counter is put into a gradient bucket",
       cpu_ranks,
       [](RuleSet& rules) { steals(rules, "G1", has_role(Role::counter)); },
       {},
       "must be outside gradient sync"},
      {"T3: the counter gets the batch axis",
       cpu_ranks,
       [](RuleSet& rules) {
         rule(rules, "L2").decide = [](const RuleCase& c, PlannedVariable& out) {
           out.layout = c.variable.role == Role::counter ? Layout{{"data"}} : Layout{};
         };
       },
       {},
       "cannot have the layout [data]"},
      aggregates("T4: the counter is summed over replicas", Role::counter, "A3", "must not have aggregation sum"),
      aggregates("T5: the counter is averaged over replicas", Role::counter, "A2", "must not have aggregation mean"),
  };
}

std::vector<Mutant> aggregation_mutants() {
  return {
      aggregates("weights are averaged", Role::parameter, "A2", "must not have aggregation mean"),
      aggregates("weights are those of rank 0", Role::parameter, "A1", "must not have aggregation only_first_replica"),
      aggregates("frozen weights are summed", Role::frozen_parameter, "A3", "must not have aggregation sum"),
      aggregates("moments are averaged, as by keras#20695's default", Role::slot, "A2",
                 "must not have aggregation mean"),
      aggregates("moments are summed", Role::slot, "A3", "must not have aggregation sum"),
      aggregates("the counter is left to itself", Role::counter, "A5", "must not have aggregation none"),
      aggregates("the counter is the most of all ranks", Role::counter, "A4", "must not have aggregation max"),
      aggregates("the learning rate is averaged", Role::hyperparameter, "A2", "must not have aggregation mean"),
      aggregates("the learning rate is left to itself", Role::hyperparameter, "A5", "must not have aggregation none"),
      aggregates("the loss scale is rank 0's", Role::loss_scale, "A1", "must not have aggregation only_first_replica"),
      aggregates("the loss scale is left to itself, as keras#20541 chose", Role::loss_scale, "A5",
                 "must not have aggregation none"),
      aggregates("running means are summed", Role::statistic, "A3", "must not have aggregation sum"),
      aggregates("running means are left to themselves", Role::statistic, "A5", "must not have aggregation none"),
      aggregates("batches seen are averaged, a mean of i64 as in keras#20541", Role::statistic_counter, "A2",
                 "must not have aggregation mean"),
      aggregates("batches seen are summed", Role::statistic_counter, "A3", "must not have aggregation sum"),
      aggregates("positions of random streams are summed", Role::random_state, "A3", "must not have aggregation sum"),
      aggregates("positions in the data are averaged", Role::data_cursor, "A2", "must not have aggregation mean"),
      aggregates("right answers are rank 0's", Role::metric, "A1", "must not have aggregation only_first_replica"),
      aggregates("right answers are left to themselves", Role::metric, "A5", "must not have aggregation none"),
      aggregates("integer counts of samples are averaged", Role::metric, "A2", "must not have aggregation mean"),
      {"nobody says how the data cursor becomes one value",
       cpu_ranks,
       [](RuleSet& rules) {
         keeps_only(rules, "A1", [](const RuleCase& c) { return c.variable.role != Role::data_cursor; });
       },
       {},
       "no rule answers the question of aggregation"},
  };
}

std::vector<Mutant> tape_mutants() {
  const auto tape_of = [](std::string name, Role role, std::string notices) {
    return Mutant{std::move(name),
                  cpu_ranks,
                  [role](RuleSet& rules) { steals(rules, "T1", has_role(role)); },
                  {},
                  std::move(notices)};
  };
  const auto sync_of = [](std::string name, Role role, std::string notices) {
    return Mutant{std::move(name),
                  cpu_ranks,
                  [role](RuleSet& rules) { steals(rules, "G1", has_role(role)); },
                  {},
                  std::move(notices)};
  };
  return {
      tape_of("frozen weights require a gradient by default", Role::frozen_parameter, "must be off the tape"),
      {"frozen integers require a gradient by default",
       cpu_ranks,
       [](RuleSet& rules) {
         steals(rules, "T1", [](const RuleCase& c) {
           return c.variable.role == Role::frozen_parameter && !is_floating(c.variable.dtype);
         });
       },
       {},
       "must be off the tape"},
      tape_of("moments require a gradient", Role::slot, "must be off the tape"),
      tape_of("the learning rate requires a gradient", Role::hyperparameter, "must be off the tape"),
      tape_of("the loss scale requires a gradient", Role::loss_scale, "must be off the tape"),
      tape_of("random positions require a gradient", Role::random_state, "must be off the tape"),
      {"a trainable scalar is off the tape",
       cpu_ranks,
       [](RuleSet& rules) {
         keeps_only(rules, "T1", has_rank), rule(rules, "T2").applies = [](auto&) { return true; };
       },
       {},
       "must be on the tape"},
      {"only f32 is trained",
       cpu_ranks,
       [](RuleSet& rules) {
         keeps_only(rules, "T1", [](const RuleCase& c) { return c.variable.dtype == DType::f32; });
         rule(rules, "T2").applies = [](const RuleCase&) { return true; };
       },
       {},
       "must be on the tape"},
      sync_of("running means are summed with the gradients", Role::statistic, "must be in no bucket"),
      sync_of("moments are summed with the gradients", Role::slot, "must be outside gradient sync"),
      sync_of("right answers are summed with the gradients", Role::metric, "must be in no bucket"),
      sync_of("frozen weights are summed with the gradients", Role::frozen_parameter, "must be in no bucket"),
      {"scalars are outside gradient sync, trainable or not",
       cpu_ranks,
       [](RuleSet& rules) {
         keeps_only(rules, "G1", has_rank);
         rule(rules, "G2").applies = [](const RuleCase&) { return true; };
       },
       {},
       "must be in gradient sync"},
      {"bf16 gradients are not summed",
       zero_1,
       [](RuleSet& rules) {
         keeps_only(rules, "G1", [](const RuleCase& c) { return c.variable.dtype == DType::f32; });
         rule(rules, "G2").applies = [](const RuleCase&) { return true; };
       },
       {},
       "must be in gradient sync"},
  };
}

std::vector<Mutant> layout_mutants() {
  return {
      {"an empty layout is taken for none, so rules reach scalars",
       sharded,
       [](RuleSet& rules) { removes(rules, "L2"); },
       {},
       "cannot have the layout [model]"},
      {"a scalar is known by its name",
       sharded,
       [](RuleSet& rules) {
         keeps_only(rules, "L2", [](const RuleCase& c) { return c.variable.path.ends_with("/iteration"); });
       },
       {},
       "cannot have the layout [model]"},
      {"an empty layout given by hand is taken for none",
       sharded,
       [](RuleSet& rules) {
         keeps_only(rules, "L1", [](const RuleCase& c) { return !c.variable.layout.axes.empty(); });
       },
       {},
       "is not the one given by hand"},
      {"a scalar gets [None] instead of []",
       cpu_ranks,
       [](RuleSet& rules) { decides_layout(rules, "L2", {{""}}); },
       {},
       "cannot have the layout [-]"},
      {"whole matrices get [] instead of [None, None]",
       cpu_ranks,
       [](RuleSet& rules) { decides_layout(rules, "L6", {}); },
       {},
       "cannot have the layout []"},
      {"[1] counts as a scalar",
       cpu_ranks,
       [](RuleSet& rules) { steals(rules, "L2", [](const RuleCase& c) { return c.variable.shape.size() == 1; }); },
       {},
       "cannot have the layout []"},
      {"[0] counts as a scalar",
       cpu_ranks,
       [](RuleSet& rules) { steals(rules, "L2", [](const RuleCase& c) { return c.variable.shape.size() == 0; }); },
       {},
       "cannot have the layout []"},
      {"a slot is whole whatever its parameter",
       sharded,
       [](RuleSet& rules) {
         rule(rules, "L3").decide = [](const RuleCase& c, PlannedVariable& out) {
           out.layout = Layout::replicated(c.variable.shape.rank());
         };
       },
       {},
       "must have the place, shape and layout of its parameter"},
      {"a layout given by hand is overruled",
       sharded,
       [](RuleSet& rules) { removes(rules, "L1"); },
       {},
       "has layout [-"},
      {"rules of layout are never read", sharded, [](RuleSet& rules) { removes(rules, "L5"); }, {}, "has layout [-"},
      {"a rule that does not divide replicates in silence",
       indivisible,
       [](RuleSet& rules) { rule(rules, "L4").applies = [](const RuleCase& c) { return c.variable.path == "table"; }; },
       {},
       "has layout [-]"},
      {"everything is sharded by the batch axis",
       cpu_ranks,
       [](RuleSet& rules) {
         rule(rules, "L6").decide = [](const RuleCase& c, PlannedVariable& out) {
           out.layout = Layout::replicated(c.variable.shape.rank());
           if (c.variable.path == "embedding") out.layout.axes[0] = "data";
         };
       },
       {},
       "has layout [data"},
  };
}

std::vector<Mutant> residence_mutants() {
  return {
      {"the counter lives with the model's arrays, as in pt#74424",
       cpu_ranks,
       [](RuleSet& rules) {
         keeps_only(rules, "R1", [](const RuleCase& c) { return c.variable.role != Role::counter; });
       },
       {},
       "must have residence each_rank"},
      {"ZeRO splits the counter",
       zero_1,
       [](RuleSet& rules) { steals(rules, "R2", has_role(Role::counter)); },
       {},
       "must have residence each_rank"},
      {"ZeRO splits the learning rate",
       zero_3,
       [](RuleSet& rules) { steals(rules, "R2", has_role(Role::hyperparameter)); },
       {},
       "must have residence each_rank"},
      {"ZeRO 1 leaves the slots whole",
       zero_1,
       [](RuleSet& rules) { removes(rules, "R2"); },
       {},
       "must have residence split"},
      {"ZeRO 1 splits the weights",
       zero_1,
       [](RuleSet& rules) { steals(rules, "R2", has_role(Role::parameter)); },
       {},
       "must have residence one_per_rank"},
      {"ZeRO splits what a layout has split by the batch axis",
       sharded,
       [](RuleSet& rules) {
         rule(rules, "R2").applies = [](const RuleCase& c) { return c.variable.role == Role::slot; };
       },
       {},
       "must have residence one_per_rank"},
      {"GPUs share the copy of a node",
       zero_2,
       [](RuleSet& rules) { rule(rules, "R3").applies = [](const RuleCase&) { return true; }; },
       {},
       "must have residence one_per_rank"},
      {"CPU ranks each have a copy",
       cpu_ranks,
       [](RuleSet& rules) { removes(rules, "R3"); },
       {},
       "must have residence one_per_node"},
      {"all bookkeeping is one for the node",
       cpu_ranks,
       [](RuleSet& rules) { removes(rules, "R1"); },
       {},
       "must have residence each_rank"},
  };
}

}  // namespace lockstep
