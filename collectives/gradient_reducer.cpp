// SPDX-License-Identifier: Apache-2.0
#include "collectives/gradient_reducer.h"

#include <algorithm>
#include <atomic>

#include "collectives/bucket_sum.h"
#include "collectives/finite.h"
#include "collectives/node_group.h"

namespace lockstep {

namespace {

// In front of a rank's arenas: how many buckets it has filled since the start, in plan order.
struct alignas(128) Progress {
  std::atomic<uint64_t> buckets{0};
};

constexpr int64_t kArenaAlignment = 128;

int64_t arena_stride(int64_t elements) {
  return (elements * int64_t(sizeof(float)) + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment;
}

int leaves_in(ReduceMode mode, int virtual_ranks, int ranks) {
  return mode == ReduceMode::tree ? virtual_ranks : ranks;
}

void check_buckets(const std::vector<GradientBucket>& buckets, int64_t elements) {
  int64_t end = 0;
  for (const GradientBucket& bucket : buckets) {
    check(bucket.begin >= end && bucket.end >= bucket.begin && bucket.end <= elements && bucket.members >= 0,
          ErrorCode::plan, [&] {
            return str("bucket '", bucket.name, "' [", bucket.begin, ", ", bucket.end, ") with ", bucket.members,
                       " gradients does not follow the one before it, which ends at ", end, ", within ", elements,
                       " elements");
          });
    end = bucket.end;
  }
}

}  // namespace

int64_t gradient_bytes(int rank, int64_t ranks, int leaves, int64_t elements) {
  // With as many ranks as leaves, each has a leaf at most.
  const int arenas = ranks >= leaves ? 1 : leaf_arenas(leaves, leaves_of(rank, int(ranks), leaves));
  return int64_t(sizeof(Progress)) + arenas * arena_stride(elements);
}

struct GradientReducer::State {
  State(Communicator& axis, std::vector<GradientBucket> plan, int64_t elements_of_arena, ReduceMode reduce_mode,
        int leaves)
      : comm(axis),
        buckets(std::move(plan)),
        elements(elements_of_arena),
        mode(reduce_mode),
        stack(leaves, leaves_of(axis.rank(), axis.size(), leaves)),
        sum(axis, leaves),
        next_leaf(stack.own().begin),
        missing(buckets.size()) {
    bytes = gradient_bytes(axis.rank(), axis.size(), leaves, elements);
    window = comm.allocate_shared(bytes);
    arenas = {window.get(), sizeof(Progress), arena_stride(elements)};
    for (const GradientBucket& bucket : buckets) labels.push_back(str("bucket '", bucket.name, "'"));
  }

  int local_rank() const { return comm.place().local_rank; }
  Range range(size_t bucket) const { return {buckets[bucket].begin, buckets[bucket].end}; }
  Progress& progress(int of_local_rank) const { return *static_cast<Progress*>(window->segment(of_local_rank)); }

  void begin_step();
  void expect_full(std::string_view caller) const;
  void publish(int threads);
  bool sum_bucket(size_t bucket, Stream& compute);
  Slice slice(Range range) const {
    return {range.begin, range.end, {sums() + range.begin, DType::f32, DeviceKind::cpu, Shape{range.size()}}};
  }
  float* sums() const { return mode == ReduceMode::mpi ? arenas.at(local_rank(), 0) : sum.result(arenas); }

  Communicator& comm;
  std::vector<GradientBucket> buckets;
  std::vector<std::string> labels;
  int64_t elements, bytes;
  ReduceMode mode;
  LeafStack stack;
  BucketSum sum;
  std::unique_ptr<SharedWindow> window;
  Arenas arenas;
  int next_leaf;
  std::vector<int> missing;    // gradients still to come for the current leaf, by bucket
  size_t filled = 0;           // buckets of the current leaf that are final, in plan order
  uint64_t filled_before = 0;  // buckets of all steps before this one
  bool in_step = false;
  bool finite = true;  // all sums of this rank
};

// No rank writes into arenas that another may still read: the step before must be over on all ranks of the node.
void GradientReducer::State::begin_step() {
  comm.node().barrier();
  in_step = true;
}

void GradientReducer::State::expect_full(std::string_view caller) const {
  for (size_t b = 0; b < buckets.size(); ++b) {
    check(missing[b] == 0, ErrorCode::collective, [&] {
      return str(caller, ": ", labels[b], " misses ", missing[b], " of ", buckets[b].members, " gradients of leaf ",
                 next_leaf - 1, " on ", comm.describe(comm.rank()),
                 "; call gradient_ready once per member, also for gradients that are zero");
    });
  }
}

// Buckets that have become final go on in plan order: into the sums of the leaves before, or out to the other ranks.
void GradientReducer::State::publish(int threads) {
  const size_t before = filled;
  const int leaf = next_leaf - 1;
  for (; filled < buckets.size() && missing[filled] == 0; ++filled)
    if (stack.own().size() > 0) stack.merge(leaf, arenas, local_rank(), range(filled), threads);
  if (filled == before || next_leaf < stack.own().end) return;
  progress(local_rank()).buckets.store(filled_before + filled, std::memory_order_release);
}

bool GradientReducer::State::sum_bucket(size_t bucket, Stream& compute) {
  const uint64_t target = filled_before + bucket + 1;
  comm.node().wait_for_all(labels[bucket],
                           [&](int i) { return progress(i).buckets.load(std::memory_order_acquire) >= target; });
  if (mode == ReduceMode::mpi) {
    float* whole = arenas.at(local_rank(), 0) + range(bucket).begin;
    comm.vendor_all_reduce({whole, DType::f32, DeviceKind::cpu, Shape{range(bucket).size()}}, ReduceOp::sum);
    const Range mine = sum.summed(range(bucket));
    return all_finite(sums() + mine.begin, mine.size());
  }
  comm.record_collective("reduce_scatter", DType::f32, range(bucket).size() * int64_t(sizeof(float)));
  return sum.run(comm, arenas, range(bucket), compute.threads());
}

GradientReducer::GradientReducer(Communicator& data_axis, std::vector<GradientBucket> buckets, int64_t elements,
                                 ReduceMode mode, int virtual_ranks) {
  check_buckets(buckets, elements);
  check(virtual_ranks >= 1, ErrorCode::usage,
        [&] { return str("expected at least 1 virtual rank, got ", virtual_ranks); });
  check(mode != ReduceMode::mpi || data_axis.transport() == "mpi" || data_axis.size() == 1, ErrorCode::usage,
        "--reduce mpi needs ranks started by mpirun; ranks that are threads can reduce by 'tree' or 'fast'");
  state_ = std::make_unique<State>(data_axis, std::move(buckets), elements, mode,
                                   leaves_in(mode, virtual_ranks, data_axis.size()));
}

GradientReducer::~GradientReducer() = default;

int GradientReducer::first_leaf() const { return state_->stack.own().begin; }
int GradientReducer::last_leaf() const { return state_->stack.own().end; }
size_t GradientReducer::buckets() const { return state_->buckets.size(); }
int64_t GradientReducer::shared_bytes() const { return state_->bytes; }
void GradientReducer::node_barrier() { state_->comm.node().barrier(); }

View GradientReducer::begin_leaf(int leaf) {
  State& s = *state_;
  check(leaf == s.next_leaf && leaf < last_leaf(), ErrorCode::collective, [&] {
    return str("begin_leaf: expected leaf ", s.next_leaf, " of [", first_leaf(), ", ", last_leaf(), "), got ", leaf,
               "; leaves come in ascending order and wait() follows the last");
  });
  if (s.in_step) {
    s.expect_full("begin_leaf");
  } else {
    s.begin_step();
  }
  ++s.next_leaf;
  s.filled = 0;
  for (size_t b = 0; b < s.buckets.size(); ++b) s.missing[b] = s.buckets[b].members;
  s.publish(1);
  return {s.arenas.at(s.local_rank(), s.stack.arena_of(leaf)), DType::f32, DeviceKind::cpu, Shape{s.elements}};
}

void GradientReducer::gradient_ready(size_t bucket, Stream& compute) {
  State& s = *state_;
  check(bucket < s.buckets.size(), ErrorCode::collective,
        [&] { return str("gradient_ready: bucket ", bucket, " of ", s.buckets.size()); });
  check(s.in_step && s.missing[bucket] > 0, ErrorCode::collective, [&] {
    return str("gradient_ready: ", s.labels[bucket], " has all its ", s.buckets[bucket].members,
               " gradients already; each is announced once per leaf");
  });
  if (--s.missing[bucket] == 0) s.publish(compute.threads());
}

void GradientReducer::no_leaves() {
  State& s = *state_;
  check(first_leaf() == last_leaf(), ErrorCode::collective,
        [&] { return str("no_leaves: this rank owns leaves ", first_leaf(), " to ", last_leaf() - 1); });
  s.begin_step();
  s.publish(1);
}

void GradientReducer::wait(Stream& compute) {
  State& s = *state_;
  check(s.in_step && s.next_leaf == last_leaf(), ErrorCode::collective, [&] {
    return str("wait: this rank owns leaves [", first_leaf(), ", ", last_leaf(), "), but leaf ", s.next_leaf,
               " has not begun");
  });
  s.expect_full("wait");
  s.finite = true;
  for (size_t b = 0; b < s.buckets.size(); ++b) s.finite &= s.sum_bucket(b, compute);
  if (s.comm.place().nodes > 1 && s.mode != ReduceMode::mpi) s.comm.node().barrier();
  s.filled_before += s.buckets.size();
  s.filled = 0;
  s.next_leaf = first_leaf();
  s.in_step = false;
}

GradientReducer::Slice GradientReducer::owned(size_t bucket) const {
  const State& s = *state_;
  return s.slice(s.sum.owned(s.range(bucket)));
}

bool GradientReducer::sums_are_finite() const { return state_->finite; }

void GradientReducer::visit_sums(size_t bucket, int64_t begin, int64_t end, const Visit& visit) const {
  const State& s = *state_;
  // Several nodes, and MPI, leave the whole sum in one arena; otherwise each rank has its slice in its own.
  if (s.mode == ReduceMode::mpi || s.comm.place().nodes > 1) return visit(s.sums() + begin, end - begin);
  for (int rank = 0; rank < s.comm.place().local_size; ++rank) {
    const Range slice = s.sum.owned(s.range(bucket), rank);
    const int64_t first = std::max(begin, slice.begin), last = std::min(end, slice.end);
    if (first < last) visit(s.arenas.at(rank, 0) + first, last - first);
  }
}

GradientReducer::Slice GradientReducer::summed(size_t bucket) const {
  const State& s = *state_;
  return s.slice(s.sum.summed(s.range(bucket)));
}

}  // namespace lockstep
