// SPDX-License-Identifier: Apache-2.0
// Finished plans as broken planners would have left them.
#include <algorithm>
#include <utility>

#include "tests/runtime/plan/mutant_tables.h"

namespace lockstep {
namespace {
using enum Machine;

Mutant changed(std::string name, Machine machine, std::function<void(Plan&)> change, std::string notices) {
  return {std::move(name), machine, {}, std::move(change), std::move(notices)};
}

void drop_variable(Plan& plan, std::string_view path) {
  plan.variables.erase(plan.variables.begin() + index_of(plan, path));
}

// A bucket with several members, so that one of them can be lost.
PlannedBucket& wide_bucket(Plan& plan) {
  return *std::ranges::max_element(plan.buckets, {}, [](const auto& bucket) { return bucket.variables.size(); });
}

}  // namespace

std::vector<Mutant> state_mutants() {
  return {
      changed(
          "the counter is a 32-bit integer", cpu_ranks,
          [](Plan& p) { variable(p, "nadam/iteration").dtype = DType::i32; }, "must be i64 to stay exact"),
      changed(
          "the counter is a float, exact to 2^24", cpu_ranks,
          [](Plan& p) { variable(p, "nadam/iteration").dtype = DType::f32; }, "must be i64 to stay exact"),
      changed(
          "the counter is bf16, which stalls at 256", cpu_ranks,
          [](Plan& p) { variable(p, "nadam/iteration").dtype = DType::bf16; }, "must be i64 to stay exact"),
      changed(
          "the counter has shape [1]", cpu_ranks,
          [](Plan& p) {
            variable(p, "nadam/iteration").shape = Shape{1};
            variable(p, "nadam/iteration").layout = Layout::replicated(1);
          },
          "must be a scalar"),
      changed(
          "the learning rate is narrowed to f32", cpu_ranks,
          [](Plan& p) { variable(p, "nadam/learning_rate").dtype = DType::f32; }, "must have a dtype of its role"),
      changed(
          "there is no counter", cpu_ranks, [](Plan& p) { drop_variable(p, "nadam/iteration"); },
          "the optimizer has 0 counters"),
      changed(
          "there is no learning rate", cpu_ranks, [](Plan& p) { drop_variable(p, "nadam/learning_rate"); },
          "the optimizer has 0 learning rates"),
      changed(
          "a scalar of the optimizer is forgotten", cpu_ranks, [](Plan& p) { drop_variable(p, "nadam/u_product"); },
          "the plan lacks nadam/u_product"),
      changed(
          "there are two counters", cpu_ranks,
          [](Plan& p) {
            p.variables.push_back(p.at("nadam/iteration"));
            p.variables.back().path = "nadam/step";
            p.variables.back().offset = p.local_bytes;
            p.local_bytes += 8;
            for (RankClass& members : p.classes) members.memory.scalars += 8;
          },
          "the optimizer has 2 counters"),
      changed(
          "two variables have one path", cpu_ranks, [](Plan& p) { variable(p, "cursor").path = "random"; },
          "must be the only variable of this path"),
      changed(
          "a frozen weight is trained again after wrapping", cpu_ranks,
          [](Plan& p) { variable(p, "table").role = Role::parameter; }, "must be on the tape"),
      changed(
          "a weight froze while it was planned", cpu_ranks,
          [](Plan& p) { variable(p, "one").role = Role::frozen_parameter; }, "must be in no bucket"),
      changed(
          "a moment is promoted to f64", cpu_ranks,
          [](Plan& p) { variable(p, "dense/bias/nadam/momentum").dtype = DType::f64; },
          "must have a dtype of its role"),
      changed(
          "a model with nothing to train is planned", cpu_ranks,
          [](Plan& p) {
            std::erase_if(p.variables,
                          [](const PlannedVariable& v) { return v.role == Role::parameter || v.role == Role::slot; });
            p.buckets.clear();
            p.arena_elements = 0;
          },
          "nothing is trained"),
      changed(
          "a slot of a bf16 weight is rounded to bf16", zero_1,
          [](Plan& p) { variable(p, "half/nadam/momentum").dtype = DType::bf16; }, "must have a dtype of its role"),
      changed(
          "a variable of the model is forgotten", cpu_ranks, [](Plan& p) { p.variables[15].by_optimizer = true; },
          "was planned as"),
      changed(
          "a decision has no rule", cpu_ranks, [](Plan& p) { variable(p, "cursor").rules[3] = ""; },
          "must have a rule for every decision"),
      changed(
          "a rule that matched nothing is not reported", sharded, [](Plan& p) { p.warnings.clear(); },
          "is used or reported"),
      changed(
          "the batch is split over an axis that is not there", cpu_ranks,
          [](Plan& p) { p.settings.batch_axis = "batch"; }, "no axis 'batch'"),
      changed(
          "ZeRO splits what a node shares", cpu_ranks, [](Plan& p) { p.settings.zero = 1; },
          "ZeRO stage 1 with copies per_node"),
  };
}

std::vector<Mutant> bucket_mutants() {
  const auto number = [](Plan& p, const PlannedBucket& bucket) { return int32_t(&bucket - p.buckets.data()); };
  return {
      changed(
          "the counter is a member of a bucket", cpu_ranks,
          [](Plan& p) { p.buckets[0].variables.push_back(index_of(p, "nadam/iteration")); }, "must be in no bucket"),
      changed(
          "a trainable scalar has lost its bucket", cpu_ranks,
          [](Plan& p) {
            for (PlannedBucket& bucket : p.buckets) std::erase(bucket.variables, index_of(p, "temperature"));
          },
          "must be in exactly one bucket"),
      changed(
          "a weight is twice in its bucket", cpu_ranks,
          [](Plan& p) { wide_bucket(p).variables.push_back(wide_bucket(p).variables.back()); },
          "must lie behind the members of its bucket before it"),
      changed(
          "a weight is in two buckets", cpu_ranks,
          [](Plan& p) { p.buckets[1].variables.push_back(p.buckets[0].variables[0]); },
          "must name bucket 1, which it is a member of"),
      changed(
          "a bucket has a member that does not exist", cpu_ranks,
          [](Plan& p) { p.buckets[0].variables.push_back(int32_t(p.variables.size())); }, "has the member 34 of 34"),
      changed(
          "a weight names another bucket", cpu_ranks,
          [=](Plan& p) {
            PlannedBucket& bucket = wide_bucket(p);
            p.variables[size_t(bucket.variables[0])].bucket = number(p, bucket) == 0 ? 1 : 0;
          },
          "must name bucket 0, which it is a member of"),
      changed(
          "a weight names no bucket", cpu_ranks, [](Plan& p) { variable(p, "one").bucket = -1; },
          "must name bucket 0, which it is a member of"),
      changed(
          "a bucket lacks the padding to equal parts", zero_1, [](Plan& p) { p.buckets[0].end -= 1; }, "must begin at"),
      changed(
          "there is a gap between buckets", zero_1, [](Plan& p) { p.buckets[1].begin += 32; },
          "must lie inside its bucket"),
      changed(
          "the last bucket is missing", zero_1, [](Plan& p) { p.buckets.pop_back(); }, "must be in exactly one bucket"),
      changed(
          "the arena is longer than its buckets", zero_1, [](Plan& p) { p.arena_elements += 128; }, "buckets cover"),
      changed(
          "bf16 and f32 share a bucket", zero_1,
          [](Plan& p) { p.buckets[size_t(p.at("half").bucket)].dtype = DType::f32; },
          "must have the dtype and the kind of split of its bucket"),
      changed(
          "a bucket of shards passes for one of whole weights", sharded,
          [](Plan& p) { p.buckets[size_t(p.at("embedding").bucket)].split_by_batch = false; },
          "must have the dtype and the kind of split of its bucket"),
      changed(
          "members are not in the order in which gradients become final", cpu_ranks,
          [](Plan& p) { std::reverse(wide_bucket(p).variables.begin(), wide_bucket(p).variables.end()); },
          "must lie behind the members of its bucket before it"),
      changed(
          "the sizes of buckets are not those asked for", cpu_ranks, [](Plan& p) { p.settings.bucket_bytes = 100; },
          "was closed too late"),
  };
}

std::vector<Mutant> place_mutants() {
  return {
      changed(
          "two weights overlap", cpu_ranks,
          [](Plan& p) { variable(p, "dense/bias").offset = p.at("dense/kernel").offset; },
          "must lie behind the members of its bucket before it"),
      changed(
          "a weight lies before its arena", cpu_ranks, [](Plan& p) { variable(p, "one").offset = -32; },
          "must lie inside its bucket"),
      changed(
          "a weight reaches beyond its arena", cpu_ranks,
          [](Plan& p) { variable(p, "dense/kernel").offset = p.arena_elements - 8; }, "must lie inside its bucket"),
      changed(
          "two frozen weights overlap", cpu_ranks, [](Plan& p) { variable(p, "index").offset = 0; },
          "must not overlap table"),
      changed(
          "two scalars share their storage, as in pt#96313", cpu_ranks,
          [](Plan& p) { variable(p, "nadam/learning_rate").offset = p.at("nadam/iteration").offset; },
          "must not overlap nadam/iteration"),
      changed(
          "a scalar is not aligned", cpu_ranks, [](Plan& p) { variable(p, "cursor").offset += 4; }, "must be aligned"),
      changed(
          "a frozen weight lies among the trained", cpu_ranks,
          [](Plan& p) { variable(p, "table").section = Section::trainable; }, "must lie in the section of its role"),
      changed(
          "both moments share their storage", cpu_ranks,
          [](Plan& p) { variable(p, "dense/bias/nadam/velocity").slot = 0; },
          "must be the only one of its kind for its parameter"),
      changed(
          "a slot lies elsewhere than its parameter", cpu_ranks,
          [](Plan& p) { variable(p, "dense/bias/nadam/momentum").offset += 32; },
          "must have the place, shape and layout of its parameter"),
      changed(
          "a weight has only one of two moments", cpu_ranks,
          [](Plan& p) { drop_variable(p, "dense/kernel/nadam/velocity"); }, "must have slot 1"),
      changed(
          "a slot is keyed to another parameter", cpu_ranks,
          [](Plan& p) { variable(p, "dense/bias/nadam/momentum").parameter = index_of(p, "one"); },
          "must have the place, shape and layout of its parameter"),
      changed(
          "a slot is keyed to no parameter", cpu_ranks,
          [](Plan& p) { variable(p, "dense/bias/nadam/momentum").parameter = -1; },
          "must name a parameter if and only if it is a slot"),
      changed(
          "a slot is keyed to a frozen weight", cpu_ranks,
          [](Plan& p) { variable(p, "dense/bias/nadam/momentum").parameter = index_of(p, "table"); },
          "must belong to a trainable parameter"),
      changed(
          "a slot is one the optimizer does not have", cpu_ranks,
          [](Plan& p) { variable(p, "one/nadam/momentum").slot = 9; }, "must be one of the optimizer's 3 slots"),
      changed(
          "a bf16 weight has no f32 master", zero_1, [](Plan& p) { drop_variable(p, "half/nadam/master"); },
          "must have slot 2"),
      changed(
          "masters stay", zero_1, [](Plan& p) { p.settings.stochastic_rounding = true; }, "must have no master"),
      changed(
          "every rank holds the global shape of a shard", sharded,
          [](Plan& p) { variable(p, "embedding").local_elements = p.at("embedding").shape.size(); },
          "must have 16 elements in a rank"),
      changed(
          "a layout names an axis of another mesh", sharded,
          [](Plan& p) { variable(p, "table").layout.axes[0] = "elsewhere"; },
          "must have axes of the mesh in its layout"),
      changed(
          "a layout splits two dimensions by one axis", sharded,
          [](Plan& p) {
            variable(p, "dense/kernel").layout.axes = {"model", "model"};
          },
          "must not be split twice by the axis model"),
      changed(
          "a layout splits what it does not divide", sharded,
          [](Plan& p) { variable(p, "index").layout.axes[0] = "model"; }, "must have a dimension 0 that model divides"),
      changed(
          "a weight is sharded and nobody gathers it", zero_1,
          [](Plan& p) {
            variable(p, "dense/kernel").layout.axes[1] = "data";
            variable(p, "dense/kernel").local_elements /= 4;
          },
          "must have the dtype and the kind of split of its bucket"),
  };
}

std::vector<Mutant> collective_mutants() {
  return {
      changed(
          "a bucket is not summed", cpu_ranks, [](Plan& p) { erase_collective(p, "gradients of bucket 1"); },
          "no collective does what bucket 1"),
      changed(
          "a bucket is summed twice", cpu_ranks,
          [](Plan& p) { p.collectives.push_back(collective(p, "gradients of bucket 1")); },
          "nothing needs a collective that the plan has: reduce_scatter of f32, 512 B, each step"),
      changed(
          "a bucket is summed with every micro-batch instead of once", zero_1,
          [](Plan& p) { collective(p, "gradients of bucket 0").phase = Phase::micro_batch; }, "micro"),
      changed(
          "gradients that are not kept are summed only in the last micro-batch", zero_2,
          [](Plan& p) { collective(p, "gradients of bucket 0").phase = Phase::step; }, "micro"),
      changed(
          "a sum leaves out the end of a bucket", cpu_ranks,
          [](Plan& p) { collective(p, "gradients of bucket 0").bytes -= 128; },
          "nothing needs a collective that the plan has: reduce_scatter of f32, 896 B, each step"),
      changed(
          "sums of two buckets have each other's bytes", zero_1,
          [](Plan& p) {
            collective(p, "gradients of bucket 0").bytes += 128;
            collective(p, "gradients of bucket 1").bytes -= 128;
          },
          "nothing needs a collective that the plan has: reduce_scatter of f32, 384 B, each step"),
      changed(
          "gradients are summed over the shards instead of the replicas", sharded,
          [](Plan& p) { collective(p, "gradients of bucket 0").group = "model"; }, "runs over model"),
      changed(
          "gradients are summed over an axis of one rank, as in verl#7493", sharded,
          [](Plan& p) {
            for (PlannedCollective& c : p.collectives)
              if (c.what.starts_with("gradients")) c.group = "lone";
          },
          "has no ranks in group lone"),
      changed(
          "gradients travel in bf16", zero_1,
          [](Plan& p) { collective(p, "gradients of bucket 0").dtype = DType::bf16; },
          "no collective does what bucket 0"),
      changed(
          "sums in bf16 travel as f32", narrow,
          [](Plan& p) { collective(p, "gradients of bucket 0").dtype = DType::f32; },
          "the plan has: all_reduce of f32, 512 B, each step"),
      changed(
          "every rank receives gradients that it does not keep", zero_1,
          [](Plan& p) { collective(p, "gradients of bucket 0").kind = CollectiveKind::all_reduce; },
          "nothing needs a collective that the plan has: all_reduce of f32, 1024 B, each step"),
      changed(
          "updated parts are never gathered, as in Megatron-LM#6920", zero_1,
          [](Plan& p) { erase_collective(p, "updated parameters of bucket 0"); }, "no collective does what bucket 0"),
      changed(
          "parameters are gathered for the forward pass alone", zero_3,
          [](Plan& p) { erase_collective(p, "parameters for the backward pass of bucket 0"); },
          "no collective does what bucket 0"),
      changed(
          "updated parts are gathered before the gradients are summed", zero_1,
          [](Plan& p) {
            std::swap(collective(p, "gradients of bucket 0"), collective(p, "updated parameters of bucket 0"));
          },
          "comes after parameters were gathered"),
      changed(
          "a rank keeps the loss to itself", cpu_ranks, [](Plan& p) { erase_collective(p, "loss"); }, "the loss"),
      changed(
          "the loss is summed over the ranks instead of the leaves", cpu_ranks,
          [](Plan& p) { collective(p, "loss").bytes /= 2; },
          "nothing needs a collective that the plan has: all_reduce of f64"),
      changed(
          "statistics are broadcast with every micro-batch, as DDP's buffers", zero_1,
          [](Plan& p) {
            const CollectiveRecord c{CollectiveKind::broadcast, DType::f32, "data", 32};
            p.collectives.insert(p.collectives.begin(), {c, Phase::micro_batch, "norm/mean"});
          },
          "nothing needs a collective that the plan has: broadcast of f32, 32 B, each micro_batch"),
      changed(
          "the counter is summed in every step", zero_1,
          [](Plan& p) {
            p.collectives.push_back(
                {CollectiveKind::all_reduce, DType::i64, "data", 8, Phase::step, "nadam/iteration"});
          },
          "comes after parameters were gathered"),
      changed(
          "a collective has a group that is no axis", cpu_ranks,
          [](Plan& p) { collective(p, "gradients of bucket 0").group = "everyone"; }, "has no ranks in group everyone"),
  };
}

std::vector<Mutant> memory_mutants() {
  return {
      changed(
          "a rank is missing from the classes", zero_1, [](Plan& p) { --p.classes[0].ranks; }, "classes have 3 ranks"),
      changed(
          "a class of ranks is missing", cpu_ranks, [](Plan& p) { p.classes.pop_back(); }, "classes have 2 ranks"),
      changed(
          "there are no classes of ranks", cpu_ranks, [](Plan& p) { p.classes.clear(); }, "it has no ranks"),
      changed(
          "ranks with an empty shard have no scalars", cpu_ranks, [](Plan& p) { p.classes.back().memory.scalars = 0; },
          "hold 0 B of scalars"),
      changed(
          "ZeRO 1 holds all slots in every rank", zero_1, [](Plan& p) { p.classes[0].memory.slots *= 4; },
          "hold 4608 B of slots"),
      changed(
          "ZeRO 3 holds all parameters in every rank", zero_3, [](Plan& p) { p.classes[0].memory.parameters *= 4; },
          "hold 2304 B of parameters"),
      changed(
          "ZeRO 2 forgets the buckets in flight", zero_2,
          [](Plan& p) { p.classes[0].memory.gradients = p.arena_elements; }, "hold 384 B of gradients"),
      changed(
          "ZeRO 3 forgets what it gathers", zero_3, [](Plan& p) { p.classes[0].memory.gathered = 0; },
          "hold 0 B of parameters put together"),
      changed(
          "one gradient arena too many is counted", cpu_ranks,
          [](Plan& p) { p.classes[0].memory.gradients += p.arena_elements * 4; }, "no rank holds"),
      changed(
          "sums in bf16 have no room to be sent from", narrow, [](Plan& p) { p.classes[0].memory.gradients -= 1024; },
          "which are no arenas"),
      changed(
          "every rank counts the copy of its node", cpu_ranks,
          [](Plan& p) {
            for (RankClass& members : p.classes) {
              members.node_copy = true;
              members.memory.parameters = p.classes[0].memory.parameters;
              members.memory.slots = p.classes[0].memory.slots;
            }
          },
          "the copy of its node"),
      changed(
          "nobody counts the copy of a node", cpu_ranks,
          [](Plan& p) {
            for (RankClass& members : p.classes) {
              members.node_copy = false;
              members.memory.parameters = members.memory.slots = 0;
            }
          },
          "the copy of its node"),
      changed(
          "a class begins with a rank of another", cpu_ranks, [](Plan& p) { p.classes[1].first_rank = 0; },
          "the copy of its node"),
      changed(
          "the lightest rank passes for the most loaded", cpu_ranks,
          [](Plan& p) { std::swap(p.classes.front(), p.classes.back()); }, "hold more than"),
      changed(
          "frozen weights are not counted", zero_1, [](Plan& p) { p.frozen_bytes = 0; }, "must lie inside its section"),
      changed(
          "scalars are not counted", zero_1, [](Plan& p) { p.local_bytes = 0; }, "must lie inside its section"),
  };
}

}  // namespace lockstep
