// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan/buckets.h"

#include <algorithm>
#include <map>
#include <utility>

#include "collectives/gradients/device_gradient_reducer.h"
#include "collectives/gradients/host_gradient_reducer.h"
#include "runtime/plan/owners.h"

namespace lockstep {
namespace {

constexpr int64_t kGradientBytes = size_of(DType::f32);
// One bucket is in use while the next is on its way.
constexpr int64_t kBucketsInFlight = 2;

struct OpenBucket {
  PlannedBucket bucket;
  int64_t elements = 0;
};

int64_t padded(const PlanSettings& settings, const OpenBucket& open) {
  return round_up(open.elements, open.bucket.split_by_batch ? kGranule : kGranule * settings.batch_ranks());
}

const MeshAxis& find_axis(const PlanSettings& settings, std::string_view name) {
  return *std::find_if(settings.mesh.begin(), settings.mesh.end(),
                       [&](const MeshAxis& axis) { return axis.name == name; });
}

// At most, in one rank of the batch axis.
int64_t micro_batch_samples(const PlanSettings& settings) {
  const int64_t parts = settings.batch_ranks() * settings.accumulation;
  return (settings.workload.batch + parts - 1) / parts;
}

int64_t whole(const PlanSettings& settings, const PlannedBucket& bucket) {
  return bucket.elements() * (bucket.split_by_batch ? settings.batch_ranks() : 1);
}

// Bytes that ranks with memory of their own hold to sum gradients, besides one arena of them.
int64_t reducer_bytes(const PlanSettings& settings, const std::vector<PlannedBucket>& buckets) {
  int64_t elements = 0, widest = 0;
  for (const PlannedBucket& bucket : buckets) {
    elements += bucket.elements();
    widest = std::max(widest, bucket.elements());
  }
  return device_gradient_bytes(settings.reduce, {settings.batch_ranks(), ranks_of_node(settings)}, settings.parts(),
                               elements, widest, settings.reduce_dtype) -
         elements * kGradientBytes;
}

}  // namespace

int64_t ranks_of_node(const PlanSettings& settings) {
  int64_t stride = 1;
  for (size_t i = settings.mesh.size(); i-- > 0 && settings.mesh[i].name != settings.batch_axis;)
    stride *= settings.mesh[i].size;
  if (settings.ranks_per_node == 0 || settings.ranks_per_node % stride != 0) return 0;
  const int64_t ranks = settings.ranks_per_node / stride;
  return settings.batch_ranks() % ranks == 0 ? ranks : 0;
}

std::vector<int64_t> granule_numbers(const Plan& plan) {
  std::vector<int64_t> numbers;
  int64_t next = 0;
  for (const PlannedVariable& variable : plan.variables) {
    numbers.push_back(next);
    if (variable.in_gradient_sync) next += round_up(variable.shape.size(), kGranule) / kGranule;
  }
  return numbers;
}

BucketLayout fill_buckets(const PlanSettings& settings, std::span<const BucketItem> items) {
  BucketLayout layout;
  layout.offsets.resize(items.size());
  std::vector<OpenBucket> open;  // one per dtype and kind of split
  const auto close = [&](OpenBucket& full) {
    full.bucket.begin = layout.arena_elements;
    layout.arena_elements += padded(settings, full);
    full.bucket.end = layout.arena_elements;
    for (const int32_t item : full.bucket.variables) layout.offsets[size_t(item)] += full.bucket.begin;
    layout.buckets.push_back(std::move(full.bucket));
  };
  for (size_t i = items.size(); i-- > 0;) {
    const BucketItem& item = items[i];
    auto found = std::find_if(open.begin(), open.end(), [&](const OpenBucket& each) {
      return each.bucket.dtype == item.dtype && each.bucket.split_by_batch == item.split_by_batch;
    });
    if (found == open.end()) {
      open.push_back({{.dtype = item.dtype, .split_by_batch = item.split_by_batch, .variables = {}}, 0});
      found = open.end() - 1;
    }
    found->bucket.variables.push_back(int32_t(i));
    layout.offsets[i] = found->elements;
    found->elements = round_up(found->elements + item.elements, kGranule);
    const bool first = layout.buckets.empty() && settings.first_bucket_bytes > 0;
    const int64_t enough = first ? settings.first_bucket_bytes : settings.bucket_bytes;
    if (padded(settings, *found) * kGradientBytes < enough) continue;
    close(*found);
    open.erase(found);
  }
  for (OpenBucket& rest : open) close(rest);
  return layout;
}

PlannedMemory memory_of(const PlanSettings& settings, const std::vector<PlannedBucket>& buckets,
                        const StateSizes& sizes) {
  PlannedMemory memory;
  int64_t widest_gradients = 0, widest_gathered = 0;
  for (const PlannedBucket& bucket : buckets) {
    const int64_t element = size_of(bucket.dtype);
    const bool gathered = settings.zero >= 3 || bucket.split_by_batch;
    memory.parameters += held_elements(settings, bucket, Arena::parameters) * element;
    memory.slots += held_elements(settings, bucket, Arena::slots) * kGradientBytes * sizes.slots;
    memory.gradients += held_elements(settings, bucket, Arena::gradients) * kGradientBytes;
    if (settings.zero >= 2 || bucket.split_by_batch)
      widest_gradients = std::max(widest_gradients, whole(settings, bucket) * kGradientBytes);
    if (gathered) widest_gathered = std::max(widest_gathered, whole(settings, bucket) * element);
  }
  memory.gradients += std::min<int64_t>(kBucketsInFlight, int64_t(buckets.size())) * widest_gradients;
  if (settings.copies == Copies::per_rank && settings.zero == 0) memory.gradients += reducer_bytes(settings, buckets);
  memory.gathered = std::min<int64_t>(kBucketsInFlight, int64_t(buckets.size())) * widest_gathered;
  memory.parameters += sizes.frozen_bytes;
  memory.scalars = sizes.local_bytes;
  return memory;
}

namespace {

// Tells the ranks of a node apart where they share a copy.
class NodeRanks {
 public:
  NodeRanks(const PlanSettings& settings, const std::vector<PlannedBucket>& buckets)
      : batch_ranks_(settings.batch_ranks()), ranks_per_node_(settings.ranks_per_node) {
    for (size_t i = settings.mesh.size(); i-- > 0 && settings.mesh[i].name != settings.batch_axis;)
      stride_ *= settings.mesh[i].size;
    int64_t elements = 0;
    for (const PlannedBucket& bucket : buckets) elements += bucket.elements();
    // Where there are as many ranks as parts of the batch, all hold one arena.
    gradients_.resize(size_t(batch_ranks_ < settings.parts() ? batch_ranks_ : 1));
    for (size_t i = 0; i < gradients_.size(); ++i)
      gradients_[i] = gradient_bytes(int(i), batch_ranks_, settings.parts(), elements);
  }

  // True for the first rank of its group on its node.
  bool holds_copy(int64_t rank) const {
    return rank / stride_ % batch_ranks_ == 0 || node(rank) != node(rank - stride_);
  }
  int64_t gradients(int64_t rank) const {
    return gradients_[gradients_.size() == 1 ? 0 : size_t(rank / stride_ % batch_ranks_)];
  }
  PlannedMemory memory(PlannedMemory whole, int64_t rank) const {
    whole.gradients = gradients(rank);
    if (!holds_copy(rank)) whole.parameters = whole.slots = whole.gathered = 0;
    return whole;
  }

 private:
  int64_t node(int64_t rank) const { return ranks_per_node_ == 0 ? 0 : rank / ranks_per_node_; }
  int64_t batch_ranks_, ranks_per_node_, stride_ = 1;
  std::vector<int64_t> gradients_;  // by coordinate on the batch axis, or one for all
};

}  // namespace

PlannedMemory memory_of_rank(const PlanSettings& settings, const std::vector<PlannedBucket>& buckets,
                             const StateSizes& sizes, int64_t rank) {
  const PlannedMemory whole = memory_of(settings, buckets, sizes);
  return settings.copies == Copies::per_rank ? whole : NodeRanks(settings, buckets).memory(whole, rank);
}

std::vector<RankClass> rank_classes(const PlanSettings& settings, const std::vector<PlannedBucket>& buckets,
                                    const StateSizes& sizes) {
  const PlannedMemory whole = memory_of(settings, buckets, sizes);
  const int64_t ranks = settings.ranks();
  if (settings.copies == Copies::per_rank) return {{ranks, 0, true, whole}};
  const NodeRanks nodes(settings, buckets);
  std::map<std::pair<bool, int64_t>, RankClass> classes;
  for (int64_t rank = 0; rank < ranks; ++rank) {
    RankClass& members = classes[{nodes.holds_copy(rank), nodes.gradients(rank)}];
    if (members.ranks++ == 0) {
      members.first_rank = rank;
      members.node_copy = nodes.holds_copy(rank);
      members.memory = nodes.memory(whole, rank);
    }
  }
  std::vector<RankClass> result;
  for (auto& [key, members] : classes) result.push_back(members);
  std::stable_sort(result.begin(), result.end(),
                   [](const RankClass& a, const RankClass& b) { return a.memory.total() > b.memory.total(); });
  return result;
}

int64_t activation_bytes(const PlanSettings& settings) {
  return micro_batch_samples(settings) * settings.workload.activation_bytes_per_sample /
         (settings.ranks() / settings.batch_ranks());
}

namespace {

// Gathers parameters that are split, runs the micro-batch, and scatters the gradients that are not kept whole.
void visit_micro_batch(const PlanSettings& settings, const std::vector<PlannedBucket>& buckets, const MeshAxis& batch,
                       const std::function<void(const CollectiveSize&)>& visit) {
  const auto bytes = [&](size_t b, DType dtype) { return whole(settings, buckets[b]) * size_of(dtype); };
  const auto gather = [&](size_t b, std::string_view what) {
    if (settings.zero >= 3 || buckets[b].split_by_batch)
      visit({CollectiveKind::all_gather, buckets[b].dtype, &batch, bytes(b, buckets[b].dtype), Phase::micro_batch,
             int32_t(b), what});
  };
  if (batch.size > 1)
    for (size_t b = buckets.size(); b-- > 0;) gather(b, "parameters for the forward pass");
  if (settings.workload.model_parallel_bytes_per_sample > 0)
    for (const MeshAxis& axis : settings.mesh)
      if (axis.name != settings.batch_axis && axis.size > 1)
        visit({CollectiveKind::all_reduce, DType::bf16, &axis,
               micro_batch_samples(settings) * settings.workload.model_parallel_bytes_per_sample, Phase::micro_batch,
               -1, "activations of split layers"});
  if (batch.size == 1) return;
  for (size_t b = 0; b < buckets.size(); ++b) {
    gather(b, "parameters for the backward pass");
    if (settings.zero >= 2 || buckets[b].split_by_batch)
      visit({CollectiveKind::reduce_scatter, settings.reduce_dtype, &batch, bytes(b, settings.reduce_dtype),
             Phase::micro_batch, int32_t(b), "gradients"});
  }
}

}  // namespace

void for_each_collective(const PlanSettings& settings, const std::vector<PlannedBucket>& buckets,
                         const std::function<void(const CollectiveSize&)>& visit) {
  const MeshAxis& batch = find_axis(settings, settings.batch_axis);
  visit_micro_batch(settings, buckets, batch, visit);
  if (batch.size == 1) return;  // one rank has nobody to ask
  // On CPU ranks every rank sums its slice of the arenas, which all can read; others receive the sum or their part.
  const bool scatters =
      settings.zero >= 1 || (settings.copies == Copies::per_node && settings.reduce != ReduceMode::mpi);
  const auto each = [&](CollectiveKind kind, bool parameters, std::string_view what) {
    for (size_t b = 0; b < buckets.size(); ++b) {
      if (buckets[b].split_by_batch) continue;
      const DType dtype = parameters ? buckets[b].dtype : settings.reduce_dtype;
      visit({kind, dtype, &batch, buckets[b].elements() * size_of(dtype), Phase::step, int32_t(b), what});
    }
  };
  if (settings.zero <= 1)
    each(scatters ? CollectiveKind::reduce_scatter : CollectiveKind::all_reduce, false, "gradients");
  // This comes after the sums, so that it carries what each rank has seen of them.
  visit({CollectiveKind::all_reduce, DType::f64, &batch,
         StepCells::count(settings.parts(), settings.sums, settings.batch_ranks()) * size_of(DType::f64), Phase::step,
         -1, "loss and right answers of every part, verdict of every rank"});
  if (settings.zero == 1 || settings.zero == 2) each(CollectiveKind::all_gather, true, "updated parameters");
}

void derive_costs(Plan& plan) {
  plan.classes = rank_classes(plan.settings, plan.buckets, {plan.frozen_bytes, plan.local_bytes, plan.slots});
  plan.activation_bytes = activation_bytes(plan.settings);
  for_each_collective(plan.settings, plan.buckets, [&](const CollectiveSize& c) {
    plan.collectives.push_back({{c.kind, c.dtype, c.axis->name, c.bytes},
                                c.phase,
                                c.bucket < 0 ? std::string(c.what) : str(c.what, " of bucket ", c.bucket)});
  });
}

}  // namespace lockstep
