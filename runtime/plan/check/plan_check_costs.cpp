// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan/check/plan_check_costs.h"

#include <algorithm>
#include <tuple>

namespace lockstep {
namespace {

// Plans from files can hold any numbers; sums over their micro-batches need more than 63 bits.
__extension__ using Wide = __int128;

// A collective on the batch axis that a bucket needs.
struct Need {
  Phase phase;
  CollectiveKind kind;
  DType dtype;
  Wide bytes;  // bytes of buckets from a file
  int64_t bucket;
  auto key() const { return std::tuple(phase, kind, dtype, bytes); }
};

std::string text(const Need& need) {
  const std::string bytes = need.bytes > INT64_MAX ? std::string("too many") : str(int64_t(need.bytes));
  return str(to_string(need.kind), " of ", to_string(need.dtype), ", ", bytes, " B, each ", to_string(need.phase));
}

// Gradients are summed over every part of the batch exactly once, and split values are gathered before use.
void add_needs(const Plan& plan, int64_t number, std::vector<Need>& needs) {
  const PlanSettings& s = plan.settings;
  const PlannedBucket& bucket = plan.buckets[size_t(number)];
  const Wide whole = Wide(bucket.elements()) * (bucket.split_by_batch ? s.batch_ranks() : 1);
  const auto need = [&](Phase phase, CollectiveKind kind, bool parameters) {
    const DType dtype = parameters ? bucket.dtype : s.reduce_dtype;
    needs.push_back({phase, kind, dtype, whole * size_of(dtype), number});
  };
  const bool in_parts = s.zero >= 3 || bucket.split_by_batch;
  if (in_parts)  // once for the forward pass, once for the backward pass
    for (int pass = 0; pass < 2; ++pass) need(Phase::micro_batch, CollectiveKind::all_gather, true);
  const bool each_keeps_a_part = s.zero >= 1 || (s.copies == Copies::per_node && s.reduce != ReduceMode::mpi);
  if (s.zero >= 2 || in_parts)
    need(Phase::micro_batch, CollectiveKind::reduce_scatter, false);
  else
    need(Phase::step, each_keeps_a_part ? CollectiveKind::reduce_scatter : CollectiveKind::all_reduce, false);
  if (s.zero >= 1 && !in_parts) need(Phase::step, CollectiveKind::all_gather, true);
}

// Collectives of other axes sum activations. All collectives of a micro-batch come before those of the step, and in a
// step the sums come before the gathers.
void check_order(const Plan& plan) {
  bool in_step = false, gathered = false;
  for (const PlannedCollective& c : plan.collectives) {
    const auto misplaced = [&](std::string_view why) { return str("the collective '", c.what, "' ", why); };
    const auto& mesh = plan.settings.mesh;
    const bool has_ranks = std::any_of(mesh.begin(), mesh.end(),
                                       [&](const MeshAxis& axis) { return axis.name == c.group && axis.size > 1; });
    demand(c.bytes >= 0 && has_ranks, [&] { return misplaced("has no ranks in group " + c.group); });
    demand(!in_step || c.phase == Phase::step, [&] { return misplaced("of a micro-batch comes after the step's"); });
    in_step = c.phase == Phase::step;
    if (c.group == plan.settings.batch_axis) {
      gathered |= in_step && c.kind == CollectiveKind::all_gather;
      demand(!gathered || c.kind == CollectiveKind::all_gather,
             [&] { return misplaced("comes after parameters were gathered"); });
    } else {
      demand(c.kind == CollectiveKind::all_reduce && !in_step &&
                 plan.settings.workload.model_parallel_bytes_per_sample > 0,
             [&] { return misplaced("runs over " + c.group + ", where only activations are summed"); });
    }
  }
}

// Bytes that a rank with a copy holds.
struct CopyBytes {
  Wide parameters, slots = 0, gradients = 0, gathered = 0;
};

CopyBytes copy_bytes(const Plan& plan) {
  const PlanSettings& s = plan.settings;
  CopyBytes bytes{.parameters = plan.frozen_bytes};
  Wide widest_gradients = 0, widest_gathered = 0;
  for (const PlannedBucket& bucket : plan.buckets) {
    const Wide elements = bucket.elements(), whole = elements * (bucket.split_by_batch ? s.batch_ranks() : 1);
    const auto part = [&](int stage) { return s.zero >= stage && !bucket.split_by_batch ? s.batch_ranks() : 1; };
    bytes.parameters += elements * size_of(bucket.dtype) / part(3);
    bytes.slots += elements * 4 * plan.slots / part(1);
    bytes.gradients += elements * 4 / part(2);
    if (s.zero >= 2 || bucket.split_by_batch) widest_gradients = std::max(widest_gradients, whole * 4);
    if (s.zero >= 3 || bucket.split_by_batch)
      widest_gathered = std::max(widest_gathered, whole * size_of(bucket.dtype));
  }
  // One bucket is in use while the next is on its way.
  const auto in_flight = int64_t(std::min<size_t>(2, plan.buckets.size()));
  bytes.gradients += widest_gradients * in_flight;
  bytes.gathered = widest_gathered * in_flight;
  return bytes;
}

// A rank holds its node's copy when no lower rank of its group on the batch axis is on that node.
class CopyHolders {
 public:
  explicit CopyHolders(const PlanSettings& settings) : settings_(settings) {
    for (size_t i = settings.mesh.size(); i-- > 0 && settings.mesh[i].name != settings.batch_axis;)
      stride_ *= settings.mesh[i].size;
  }
  int64_t part(int64_t rank) const { return rank / stride_ % settings_.batch_ranks(); }
  bool holds(int64_t rank) const {
    const int64_t size = settings_.ranks_per_node;
    return settings_.copies == Copies::per_rank || part(rank) == 0 ||
           (size > 0 && rank / size != (rank - stride_) / size);
  }
  int64_t count() const {
    if (settings_.copies == Copies::per_rank) return settings_.ranks();
    int64_t holders = 0;
    for (int64_t rank = 0; rank < settings_.ranks(); ++rank) holders += holds(rank);
    return holders;
  }

 private:
  const PlanSettings& settings_;
  int64_t stride_ = 1;
};

// Ranks of a node keep a header, and one arena for every sum that waits in the tree over the parts of the batch.
void check_arenas(const Plan& plan, const RankClass& members) {
  constexpr int64_t kHeader = 128, kMostArenas = 64;
  const Wide arena = (Wide(plan.arena_elements) * 4 + kHeader - 1) / kHeader * kHeader;
  const int64_t bytes = members.memory.gradients - kHeader;
  demand(arena == 0 ? bytes == 0 : bytes >= arena && bytes % arena == 0 && bytes / arena <= kMostArenas, [&] {
    return str("the ", members.ranks, " ranks like rank ", members.first_rank, " hold ", members.memory.gradients,
               " B of gradients, which are no whole arenas of ", plan.arena_elements, " elements");
  });
}

Wide widest_bucket(const Plan& plan) {
  Wide widest = 0;
  for (const PlannedBucket& bucket : plan.buckets) widest = std::max<Wide>(widest, bucket.elements());
  return widest;
}

// Where gradients are summed in bf16, f32 arenas are sent to others as a narrow copy.
Wide packed_bytes(const Plan& plan) {
  const PlanSettings& s = plan.settings;
  return s.reduce_dtype == DType::f32 || s.batch_ranks() == 1 ? 0 : widest_bucket(plan) * size_of(s.reduce_dtype);
}

// Whether all nodes have equally many, but several, consecutive ranks of the batch axis.
bool sums_within_nodes(const PlanSettings& s) {
  int64_t stride = 1;
  bool inside = false;
  for (const MeshAxis& axis : s.mesh) {
    if (inside) stride *= axis.size;
    inside |= axis.name == s.batch_axis;
  }
  const int64_t per_node = s.ranks_per_node / stride;
  return s.ranks_per_node == per_node * stride && per_node > 1 && per_node < s.batch_ranks() &&
         s.batch_ranks() % per_node == 0;
}

// Ranks with memory of their own keep further arenas for sums that wait in the tree over the parts of the batch, and
// room for the slices of a bucket that others send: one for every sum that any rank holds; on several nodes one of each
// arena on their own node for a rank of every node, and one for every sum of a node.
void check_tree_memory(const Plan& plan, const RankClass& members, const CopyBytes& copy) {
  constexpr int64_t kMostArenas = 64;
  const int64_t ranks = plan.settings.batch_ranks();
  const Wide slice = ranks == 1 ? 0 : widest_bucket(plan) / ranks * size_of(plan.settings.reduce_dtype);
  const Wide arena = Wide(plan.arena_elements) * 4, packed = packed_bytes(plan);
  bool explained = false;
  for (Wide arenas = 0; arenas < kMostArenas && !explained; ++arenas) {
    const Wide rest = Wide(members.memory.gradients) - copy.gradients - arenas * arena - (arenas + 1) * packed;
    const Wide from_node = sums_within_nodes(plan.settings) ? ranks * (arenas + 1) : 0;
    const Wide slices = slice == 0 ? 0 : rest / slice - from_node;
    const Wide least = from_node > 0 ? 1 : std::min<Wide>(ranks, plan.settings.parts());
    explained = slice == 0 ? rest == 0 : rest % slice == 0 && slices >= least && slices <= plan.settings.parts();
  }
  demand(explained, [&] {
    return str("the ", members.ranks, " ranks like rank ", members.first_rank, " hold ", members.memory.gradients,
               " B of gradients, which are no arenas of ", plan.arena_elements, " elements and slices of ",
               int64_t(slice), " B");
  });
}

void check_class(const Plan& plan, const RankClass& members, const CopyBytes& copy, const CopyHolders& holders) {
  const PlanSettings& s = plan.settings;
  demand(members.ranks > 0 && members.first_rank >= 0 && members.first_rank < s.ranks(),
         [] { return std::string("a class of ranks has no rank"); });
  demand(members.node_copy == holders.holds(members.first_rank), [&] {
    return str("rank ", members.first_rank, members.node_copy ? " is counted with" : " is counted without",
               " the copy of its node, which ", members.node_copy ? "another rank holds" : "it holds");
  });
  const auto wrong = [&](std::string_view what, Wide expected, int64_t got) {
    demand(got == expected, [&] {
      return str("the ", members.ranks, " ranks like rank ", members.first_rank, " hold ", got, " B of ", what,
                 ", not ", int64_t(expected));
    });
  };
  wrong("parameters", members.node_copy ? copy.parameters : 0, members.memory.parameters);
  wrong("slots", members.node_copy ? copy.slots : 0, members.memory.slots);
  if (s.copies == Copies::per_rank && s.zero == 0 && s.reduce == ReduceMode::tree)
    check_tree_memory(plan, members, copy);
  else if (s.copies == Copies::per_rank)
    wrong("gradients", copy.gradients + (s.zero == 0 ? packed_bytes(plan) : 0), members.memory.gradients);
  else
    check_arenas(plan, members);
  wrong("scalars", plan.local_bytes, members.memory.scalars);
  wrong("parameters put together", members.node_copy ? copy.gathered : 0, members.memory.gathered);
}

}  // namespace

void check_collectives(const Plan& plan) {
  check_order(plan);
  const PlanSettings& s = plan.settings;
  std::vector<Need> needs, found;
  if (s.batch_ranks() > 1) {
    needs.push_back({Phase::step, CollectiveKind::all_reduce, DType::f64,
                     (Wide(s.parts()) * (1 + s.sums) + s.batch_ranks()) * size_of(DType::f64), -1});
    for (size_t b = 0; b < plan.buckets.size(); ++b) add_needs(plan, int64_t(b), needs);
  }
  for (const PlannedCollective& c : plan.collectives)
    if (c.group == s.batch_axis) found.push_back({c.phase, c.kind, c.dtype, c.bytes, -1});
  const auto before = [](const Need& a, const Need& b) { return a.key() < b.key(); };
  std::sort(needs.begin(), needs.end(), before);
  std::sort(found.begin(), found.end(), before);
  for (size_t i = 0; i < std::max(needs.size(), found.size()); ++i) {
    const bool missing = i == found.size() || (i < needs.size() && before(needs[i], found[i]));
    const auto who = [&] { return needs[i].bucket < 0 ? std::string("the loss") : str("bucket ", needs[i].bucket); };
    demand(!missing, [&] {
      return str("over the axis ", s.batch_axis, ", no collective does what ", who(), " needs: ", text(needs[i]));
    });
    demand(i < needs.size() && !before(found[i], needs[i]), [&] {
      return str("over the axis ", s.batch_axis, ", nothing needs a collective that the plan has: ", text(found[i]));
    });
  }
}

void check_classes(const Plan& plan) {
  demand(!plan.classes.empty(), [] { return std::string("it has no ranks"); });
  const CopyBytes copy = copy_bytes(plan);
  const CopyHolders holders(plan.settings);
  Wide ranks = 0, with_copy = 0, before = Wide(INT64_MAX) * 8;
  for (const RankClass& members : plan.classes) {
    check_class(plan, members, copy, holders);
    const PlannedMemory& m = members.memory;
    const Wide total = Wide(m.parameters) + m.slots + m.gradients + m.scalars + m.gathered;
    demand(total <= before, [&] {
      return str("the ranks like rank ", members.first_rank, " hold more than those of the class before them");
    });
    before = total;
    ranks += members.ranks;
    with_copy += members.node_copy ? members.ranks : 0;
  }
  demand(ranks == plan.settings.ranks(), [&] {
    return str("its classes have ", int64_t(ranks), " ranks, the mesh ", to_string(plan.settings.mesh), " has ",
               plan.settings.ranks());
  });
  demand(with_copy == holders.count(),
         [&] { return str(int64_t(with_copy), " ranks hold a copy, of ", holders.count(), " that must"); });
}

}  // namespace lockstep
