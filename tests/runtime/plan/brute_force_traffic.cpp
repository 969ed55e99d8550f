// SPDX-License-Identifier: Apache-2.0
// Places, collectives and bytes of every rank.
#include <algorithm>
#include <map>
#include <set>
#include <tuple>

#include "tests/runtime/plan/brute_force.h"

namespace lockstep {
namespace {

constexpr int64_t kElementsOfALine = 32;  // elements: 128 bytes of f32

int64_t up(int64_t n, int64_t multiple) { return n % multiple == 0 ? n : n - n % multiple + multiple; }

bool by_batch(const World& world, const PlannedVariable& v) {
  const auto& axes = v.layout.axes;
  return std::find(axes.begin(), axes.end(), world.mesh[world.batch_axis].name) != axes.end();
}

// A stretch of memory of one section, in elements for arenas and in bytes elsewhere.
struct Stretch {
  int64_t begin, end;
  const PlannedVariable* owner;
};

void expect_apart(std::vector<Stretch> stretches, int64_t size, int64_t alignment) {
  std::sort(stretches.begin(), stretches.end(), [](const Stretch& a, const Stretch& b) { return a.begin < b.begin; });
  int64_t end = 0;
  for (const Stretch& stretch : stretches) {
    expect_that(stretch.begin >= end && stretch.end <= size && stretch.begin % alignment == 0, [&] {
      return str("I13: ", stretch.owner->path, " lies at [", stretch.begin, ", ", stretch.end, "), free is [", end,
                 ", ", size, ")");
    });
    end = stretch.end;
  }
}

void expect_sections(const Plan& plan) {
  std::map<std::pair<Section, int32_t>, std::vector<Stretch>> sections;
  for (const PlannedVariable& v : plan.variables) {
    const bool arena = v.role == Role::parameter || v.role == Role::slot;
    const Section right = v.role == Role::parameter          ? Section::trainable
                          : v.role == Role::slot             ? Section::slot
                          : v.role == Role::frozen_parameter ? Section::frozen
                                                             : Section::local;
    expect_that(v.section == right, [&] { return str("I13: ", v.path, " lies in section ", to_string(v.section)); });
    const int64_t size = v.local_elements * (arena ? 1 : size_of(v.dtype));
    if (size > 0) sections[{v.section, v.slot}].push_back({v.offset, v.offset + size, &v});
  }
  for (const auto& [key, stretches] : sections) {
    const Section section = key.first;
    const bool arena = section == Section::trainable || section == Section::slot;
    const int64_t size = arena                        ? plan.arena_elements
                         : section == Section::frozen ? plan.frozen_bytes
                                                      : plan.local_bytes;
    expect_apart(stretches, size, arena ? kElementsOfALine : section == Section::frozen ? 128 : 8);
  }
}

// Members in falling order of declaration, one behind the other, and padding to equal parts.
void expect_bucket(const Plan& plan, const World& world, int32_t number, std::vector<int>& memberships) {
  const PlannedBucket& bucket = plan.buckets[size_t(number)];
  const int64_t unit = bucket.split_by_batch ? kElementsOfALine : kElementsOfALine * world.parts;
  int64_t at = 0, before_last = 0;
  int32_t previous = int32_t(plan.variables.size());
  for (const int32_t member : bucket.variables) {
    expect_that(member >= 0 && member < previous,
                [&] { return str("I4: bucket ", number, " has the members out of order"); });
    const PlannedVariable& v = plan.variables[size_t(member)];
    ++memberships[size_t(member)];
    expect_that(v.bucket == number && v.dtype == bucket.dtype && by_batch(world, v) == bucket.split_by_batch,
                [&] { return str("I4: ", v.path, " does not belong into bucket ", number); });
    expect_that(v.offset == bucket.begin + at, [&] { return str("I13: ", v.path, " lies at ", v.offset); });
    before_last = at;
    at = up(at + v.local_elements, kElementsOfALine);
    previous = member;
  }
  expect_that(!bucket.variables.empty() && bucket.end == bucket.begin + up(at, unit),
              [&] { return str("I4: bucket ", number, " ends at ", bucket.end); });
  expect_that(bucket.variables.size() < 2 || up(before_last, unit) * 4 < plan.settings.bucket_bytes,
              [&] { return str("I4: bucket ", number, " was closed too late"); });
}

// Whether the ranks that rank r sums with over this axis have every part of the batch exactly once.
bool sums_batch_once(const World& world, size_t axis) {
  for (int rank = 0; rank < world.ranks; ++rank) {
    std::vector<int> seen(static_cast<size_t>(world.parts));
    for (const int member : world.group(rank, axis)) ++seen[size_t(world.at(member, world.batch_axis))];
    if (std::any_of(seen.begin(), seen.end(), [](int times) { return times != 1; })) return false;
  }
  return true;
}

using Step = std::tuple<CollectiveKind, DType, Phase, int64_t>;  // kind, dtype, phase, bytes

std::string text(const std::vector<Step>& steps) {
  std::string all;
  for (const auto& [kind, dtype, phase, bytes] : steps)
    all += str(all.empty() ? "" : ", ", to_string(kind), " ", to_string(dtype), " each ", to_string(phase), " ", bytes,
               " B");
  return "[" + all + "]";
}

// What has to happen to a bucket on every rank so that each holds updated parameters where it needs them.
std::vector<Step> expected_steps(const PlanSettings& s, const World& world, const PlannedBucket& bucket) {
  if (world.parts == 1) return {};
  const int64_t whole = (bucket.end - bucket.begin) * (bucket.split_by_batch ? world.parts : 1);
  const int64_t gradients = whole * (s.reduce_dtype == DType::bf16 ? 2 : 4), parameters = whole * size_of(bucket.dtype);
  const Step gather{CollectiveKind::all_gather, bucket.dtype, Phase::micro_batch, parameters};
  const Step scatter{CollectiveKind::reduce_scatter, s.reduce_dtype, Phase::micro_batch, gradients};
  if (bucket.split_by_batch || s.zero == 3) return {gather, gather, scatter};
  const Step update{CollectiveKind::all_gather, bucket.dtype, Phase::step, parameters};
  if (s.zero == 2) return {scatter, update};
  const Step once{CollectiveKind::reduce_scatter, s.reduce_dtype, Phase::step, gradients};
  if (s.zero == 1) return {once, update};
  // Ranks that share a node's memory each sum a slice of it; those of their own need the whole sum.
  if (s.copies == Copies::per_node && s.reduce != ReduceMode::mpi) return {once};
  return {{CollectiveKind::all_reduce, s.reduce_dtype, Phase::step, gradients}};
}

// Bytes of the arenas that leaves wait in: complete subtrees of the leaves done, and the leaf at work.
int subtrees(int begin, int end, int done_begin, int done_end) {
  if (done_begin <= begin && end <= done_end) return 1;
  if (done_end <= begin || end <= done_begin) return 0;
  int left = 1;
  while (2 * left < end - begin) left *= 2;
  return subtrees(begin, begin + left, done_begin, done_end) + subtrees(begin + left, end, done_begin, done_end);
}

// The sums that a part of the batch axis holds when its last leaf comes, and at most.
struct SumsOfPart {
  int last = 0, most = 1;
};
SumsOfPart sums_of_part(const World& world, const Plan& plan, int part) {
  const int leaves = plan.settings.reduce == ReduceMode::tree ? plan.settings.virtual_ranks : world.parts;
  const auto first = [&](int64_t p) { return int(p * leaves / world.parts); };
  SumsOfPart sums;
  for (int leaf = first(part); leaf < first(part + 1); ++leaf) {
    sums.last = 1 + subtrees(0, leaves, first(part), leaf);
    sums.most = std::max(sums.most, sums.last);
  }
  return sums;
}

int64_t shared_gradients(const World& world, const Plan& plan, int part) {
  return 128 + sums_of_part(world, plan, part).most * up(plan.arena_elements * 4, 128);
}

// How many ranks of a group along the batch axis each node has, if that is the same for all nodes and groups; else 0.
int members_on_each_node(const PlanSettings& s, const World& world) {
  if (s.ranks_per_node == 0) return 0;
  std::set<int> counts;
  for (int rank = 0; rank < world.ranks; ++rank) {
    if (world.at(rank, world.batch_axis) > 0) continue;
    std::map<int64_t, int> members;
    for (const int member : world.group(rank, world.batch_axis)) ++members[member / s.ranks_per_node];
    for (const auto& [node, count] : members) counts.insert(count);
  }
  return counts.size() == 1 ? *counts.begin() : 0;
}

// With memory of their own all ranks hold alike: arenas as the busiest one needs, and a slice of the widest bucket for
// every sum there is, where there is somebody to send it. In bf16 what is sent is a copy: a bucket of it for each
// arena.
int64_t memory_of_sums(const World& world, const Plan& plan) {
  int arenas = 1;
  int64_t sums = 0, widest = 0;
  for (int part = 0; part < world.parts; ++part) {
    const SumsOfPart of = sums_of_part(world, plan, part);
    arenas = std::max(arenas, of.most);
    sums += of.last;
  }
  for (const PlannedBucket& b : plan.buckets) widest = std::max(widest, b.end - b.begin);
  const bool bf16 = plan.settings.reduce_dtype == DType::bf16;
  int64_t bytes = (arenas - 1) * plan.arena_elements * 4;
  if (const int on_each = members_on_each_node(plan.settings, world); on_each > 1 && on_each < world.parts) {
    // Ranks of a node bring what they hold of a slice together for a rank of every node, and nodes exchange subtrees.
    const int leaves = plan.settings.virtual_ranks;
    const auto first = [&](int64_t part) { return int(part * leaves / world.parts); };
    sums = int64_t(world.parts) * arenas;
    for (int part = 0; part < world.parts; part += on_each)
      if (first(part) < first(part + on_each)) sums += subtrees(0, leaves, first(part), first(part + on_each));
  }
  if (world.parts > 1 && plan.settings.reduce == ReduceMode::tree)
    bytes += sums * (widest / world.parts) * (bf16 ? 2 : 4);
  if (world.parts > 1 && bf16) bytes += arenas * widest * 2;
  return bytes;
}

// Bytes of whole buckets in flight where ranks keep parts only: of the widest, twice where there are two.
int64_t in_flight(const Plan& plan, const World& world, bool gradients) {
  int64_t widest = 0;
  for (const PlannedBucket& b : plan.buckets) {
    const bool partial = b.split_by_batch || plan.settings.zero >= (gradients ? 2 : 3);
    const int64_t whole = (b.end - b.begin) * (b.split_by_batch ? world.parts : 1);
    if (partial) widest = std::max(widest, whole * (gradients ? 4 : size_of(b.dtype)));
  }
  return widest * std::min<int64_t>(2, int64_t(plan.buckets.size()));
}

PlannedMemory memory_of_rank(const Plan& plan, const World& world, int rank, bool holds_copy) {
  const PlanSettings& s = plan.settings;
  PlannedMemory memory;
  for (const PlannedVariable& v : plan.variables)
    if (v.section == Section::local) memory.scalars += up(v.local_elements * size_of(v.dtype), 8);
  for (const PlannedBucket& b : plan.buckets) {
    // The share of this rank in what is split: [part, part + 1) of as many equal parts.
    const auto share = [&](int from_stage) {
      const bool split = s.zero >= from_stage && !b.split_by_batch;
      const int64_t n = b.end - b.begin, part = world.at(rank, world.batch_axis);
      return split ? (part + 1) * n / world.parts - part * n / world.parts : n;
    };
    memory.parameters += share(3) * size_of(b.dtype);
    memory.slots += share(1) * 4 * plan.slots;
    memory.gradients += share(2) * 4;
  }
  for (const PlannedVariable& v : plan.variables)
    if (v.section == Section::frozen) memory.parameters += up(v.local_elements * size_of(v.dtype), 128);
  memory.gradients += in_flight(plan, world, true);
  memory.gathered = in_flight(plan, world, false);
  if (s.copies == Copies::per_rank && s.zero == 0) memory.gradients += memory_of_sums(world, plan);
  if (s.copies == Copies::per_node) {
    memory.gradients = shared_gradients(world, plan, world.at(rank, world.batch_axis));
    if (!holds_copy) memory.parameters = memory.slots = memory.gathered = 0;
  }
  return memory;
}

std::string text(const PlannedMemory& m) {
  return str(m.parameters, "/", m.slots, "/", m.gradients, "/", m.scalars, "/", m.gathered);
}

}  // namespace

void expect_places(const Plan& plan, const World& world) {
  expect_sections(plan);
  std::vector<int> memberships(plan.variables.size());
  std::map<std::pair<DType, bool>, int> unfilled;
  int64_t end = 0;
  for (size_t b = 0; b < plan.buckets.size(); ++b) {
    const PlannedBucket& bucket = plan.buckets[b];
    expect_that(bucket.begin == end, [&] { return str("I4: bucket ", b, " begins at ", bucket.begin); });
    end = bucket.end;
    expect_bucket(plan, world, int32_t(b), memberships);
    if ((bucket.end - bucket.begin) * 4 < plan.settings.bucket_bytes)
      expect_that(++unfilled[{bucket.dtype, bucket.split_by_batch}] == 1,
                  [&] { return str("I4: bucket ", b, " was closed too early"); });
  }
  expect_that(end == plan.arena_elements, [&] { return str("I4: buckets cover ", end, " elements"); });
  for (size_t i = 0; i < plan.variables.size(); ++i) {
    const PlannedVariable& v = plan.variables[i];
    expect_that(memberships[i] == (v.role == Role::parameter ? 1 : 0) && (v.bucket >= 0) == (memberships[i] == 1),
                [&] { return str("I4: ", v.path, " is a member of ", memberships[i], " buckets"); });
  }
}

void expect_collectives(const Plan& plan, const World& world) {
  std::vector<std::vector<Step>> found(plan.buckets.size());
  const bool batch_once = sums_batch_once(world, world.batch_axis);
  int losses = 0;
  bool in_step = false;
  for (const PlannedCollective& c : plan.collectives) {
    const size_t axis = world.find(c.group);
    expect_that(axis < world.mesh.size() && world.mesh[axis].size > 1,
                [&] { return str("I4: the collective '", c.what, "' has the group ", c.group); });
    expect_that(!in_step || c.phase == Phase::step, [&] { return str("I4: '", c.what, "' comes after its phase"); });
    in_step |= c.phase == Phase::step;
    const size_t of = c.what.find("of bucket ");
    if (of != std::string::npos) {
      expect_that(axis == world.batch_axis && batch_once,
                  [&] { return str("I4: '", c.what, "' does not take in every part of the batch once"); });
      found.at(size_t(std::stoi(c.what.substr(of + 10)))).push_back({c.kind, c.dtype, c.phase, c.bytes});
    } else if (axis == world.batch_axis) {
      const int leaves = plan.settings.reduce == ReduceMode::tree ? plan.settings.virtual_ranks : world.parts;
      expect_that(c.kind == CollectiveKind::all_reduce && c.dtype == DType::f64 && c.phase == Phase::step &&
                      c.bytes == leaves * 16 + world.parts * 8,
                  [&] { return str("I4: nothing needs the collective '", c.what, "' of ", c.bytes, " B"); });
      ++losses;
    } else {
      expect_that(c.kind == CollectiveKind::all_reduce && plan.settings.workload.model_parallel_bytes_per_sample > 0,
                  [&] { return str("I4: nothing needs the collective '", c.what, "' over ", c.group); });
    }
  }
  expect_that(losses == (world.parts > 1 ? 1 : 0), [&] { return str("I5: the loss is summed ", losses, " times"); });
  for (size_t b = 0; b < plan.buckets.size(); ++b) {
    const std::vector<Step> expected = expected_steps(plan.settings, world, plan.buckets[b]);
    expect_that(found[b] == expected,
                [&] { return str("I4: bucket ", b, " has ", text(found[b]), ", expected ", text(expected)); });
  }
  const auto micro = std::count_if(plan.collectives.begin(), plan.collectives.end(),
                                   [](const PlannedCollective& c) { return c.phase == Phase::micro_batch; });
  const int64_t all = int64_t(plan.collectives.size()) + micro * (plan.settings.accumulation - 1);
  expect_that(int64_t(plan.sequence().size()) == all, [&] { return str("I4: a step has not ", all, " collectives"); });
}

void expect_memory(const PlannerInput& input, const Plan& plan, const World& world) {
  struct Class {
    int64_t ranks = 0, first = 0;
  };
  std::map<std::tuple<bool, int64_t, int64_t, int64_t, int64_t, int64_t>, Class> expected;
  for (int rank = 0; rank < world.ranks; ++rank) {
    bool holds_copy = true;
    const auto node = [&](int r) { return input.settings.ranks_per_node == 0 ? 0 : r / input.settings.ranks_per_node; };
    if (input.settings.copies == Copies::per_node)
      for (const int member : world.group(rank, world.batch_axis))
        holds_copy &= member >= rank || node(member) != node(rank);
    const PlannedMemory m = memory_of_rank(plan, world, rank, holds_copy);
    Class& members = expected[{holds_copy, m.parameters, m.slots, m.gradients, m.scalars, m.gathered}];
    if (members.ranks++ == 0) members.first = rank;
  }
  expect_that(plan.classes.size() == expected.size(),
              [&] { return str("I12: ", plan.classes.size(), " classes of ranks, counted are ", expected.size()); });
  int64_t before = INT64_MAX;
  for (const RankClass& c : plan.classes) {
    const PlannedMemory& m = c.memory;
    const auto found = expected.find({c.node_copy, m.parameters, m.slots, m.gradients, m.scalars, m.gathered});
    expect_that(found != expected.end(), [&] { return "I12: no rank holds " + text(m); });
    expect_that(found->second.ranks == c.ranks && found->second.first == c.first_rank,
                [&] { return str("I12: ", c.ranks, " ranks hold ", text(m), ", counted are ", found->second.ranks); });
    expect_that(m.total() <= before, [] { return std::string("I12: classes are not in order of their bytes"); });
    before = m.total();
  }
}

}  // namespace lockstep
