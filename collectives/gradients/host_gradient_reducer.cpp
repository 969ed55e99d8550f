// SPDX-License-Identifier: Apache-2.0
#include "collectives/gradients/host_gradient_reducer.h"

#include <algorithm>
#include <atomic>

#include "collectives/gradients/bucket_progress.h"
#include "collectives/gradients/bucket_sum.h"
#include "collectives/gradients/finite.h"
#include "collectives/host/node_group.h"

namespace lockstep {

namespace {

// Lies in front of a rank's arenas: how many buckets it has filled since the start, in plan order.
struct alignas(128) Progress {
  std::atomic<uint64_t> buckets{0};
};

constexpr int64_t kArenaAlignment = 128;

int64_t arena_stride(int64_t elements) {
  return (elements * int64_t(sizeof(float)) + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment;
}

}  // namespace

int64_t gradient_bytes(int rank, int64_t ranks, int leaves, int64_t elements) {
  // With as many ranks as leaves, each has at most one leaf.
  const int arenas = ranks >= leaves ? 1 : leaf_arenas(leaves, leaves_of(rank, int(ranks), leaves));
  return int64_t(sizeof(Progress)) + arenas * arena_stride(elements);
}

struct HostGradientReducer::State {
  State(Communicator& axis, std::vector<GradientBucket> plan, int64_t elements_of_arena, ReduceMode reduce_mode,
        int leaves, DType sum_dtype)
      : comm(axis),
        elements(elements_of_arena),
        mode(reduce_mode),
        dtype(sum_dtype),
        stack(leaves, leaves_of(axis.rank(), axis.size(), leaves), dtype),
        buckets(std::move(plan), elements_of_arena, stack.own(), axis.describe(axis.rank())),
        sum(axis, leaves, dtype) {
    bytes = gradient_bytes(axis.rank(), axis.size(), leaves, elements);
    window = comm.allocate_shared(bytes);
    arenas = {window.get(), sizeof(Progress), arena_stride(elements)};
  }

  int local_rank() const { return comm.place().local_rank; }
  const GradientBucket& bucket(size_t b) const { return buckets[b]; }
  Progress& progress(int of_local_rank) const { return *static_cast<Progress*>(window->segment(of_local_rank)); }

  void publish(int threads);
  bool sum_bucket(size_t bucket, Stream& compute);
  View view(Range range) const { return {sums() + range.begin, DType::f32, DeviceKind::cpu, Shape{range.size()}}; }
  float* sums() const { return mode == ReduceMode::mpi ? arenas.at(local_rank(), 0) : sum.result(arenas); }

  Communicator& comm;
  int64_t elements, bytes;
  ReduceMode mode;
  DType dtype;
  LeafStack stack;
  BucketProgress buckets;
  BucketSum sum;
  std::unique_ptr<SharedWindow> window;
  Arenas arenas;
  uint64_t filled_before = 0;  // buckets of all earlier steps
  bool finite = true;          // whether all sums of this rank are finite
};

// Sends buckets that have become final on, in plan order: into the sums of earlier leaves, or out to the other ranks.
void HostGradientReducer::State::publish(int threads) {
  const size_t news = buckets.advance();
  if (stack.own().size() > 0)
    for (size_t b = buckets.filled() - news; b < buckets.filled(); ++b)
      stack.merge(buckets.current_part(), arenas, local_rank(), bucket(b).range(), threads);
  if (news == 0 || !buckets.last_part()) return;
  progress(local_rank()).buckets.store(filled_before + buckets.filled(), std::memory_order_release);
}

bool HostGradientReducer::State::sum_bucket(size_t b, Stream& compute) {
  const uint64_t target = filled_before + b + 1;
  comm.node().wait_for_all(buckets.label(b),
                           [&](int i) { return progress(i).buckets.load(std::memory_order_acquire) >= target; });
  const Range whole = bucket(b).range();
  if (mode == ReduceMode::mpi) {
    comm.vendor_all_reduce(view(whole), ReduceOp::sum);
    const Range mine = bucket(b).sums[size_t(comm.rank())];
    return all_finite(sums() + mine.begin, mine.size());
  }
  comm.log().enter({.kind = CollectiveKind::reduce_scatter, .dtype = dtype, .bytes = whole.size() * size_of(dtype)});
  return sum.run(comm, arenas, bucket(b), compute.threads());
}

HostGradientReducer::HostGradientReducer(Communicator& data_axis, std::vector<GradientBucket> buckets, int64_t elements,
                                         ReduceMode mode, int virtual_ranks, DType dtype) {
  check(virtual_ranks >= 1, ErrorCode::usage,
        [&] { return str("expected at least 1 virtual rank, got ", virtual_ranks); });
  check(mode != ReduceMode::mpi || data_axis.transport() == "mpi" || data_axis.size() == 1, ErrorCode::usage,
        "--reduce mpi needs ranks started by mpirun; ranks that are threads can reduce by 'tree' or 'fast'");
  check_reduce_dtype(mode, dtype);
  state_ = std::make_unique<State>(data_axis, std::move(buckets), elements, mode,
                                   parts_of_batch(mode, virtual_ranks, data_axis.size()), dtype);
}

HostGradientReducer::~HostGradientReducer() = default;

int HostGradientReducer::first_part() const { return state_->stack.own().begin; }
int HostGradientReducer::last_part() const { return state_->stack.own().end; }
int64_t HostGradientReducer::shared_bytes() const { return state_->bytes; }
void HostGradientReducer::meet() { state_->comm.node().barrier(); }

View HostGradientReducer::begin_part(int leaf, Stream&) {
  State& s = *state_;
  const bool begins_step = !s.buckets.in_step();
  s.buckets.begin_part(leaf);
  // No rank writes into arenas that another may still read: the step before must be over on all ranks of the node.
  if (begins_step) s.comm.node().barrier();
  s.publish(1);
  return {s.arenas.at(s.local_rank(), s.stack.arena_of(leaf)), DType::f32, DeviceKind::cpu, Shape{s.elements}};
}

void HostGradientReducer::gradient_ready(size_t bucket, Stream& compute) {
  if (state_->buckets.gradient_ready(bucket)) state_->publish(compute.threads());
}

void HostGradientReducer::without_parts(Stream&) {
  state_->buckets.begin_without_parts();
  state_->comm.node().barrier();
  state_->publish(1);
}

void HostGradientReducer::wait(Stream& compute) {
  State& s = *state_;
  s.buckets.end_step();
  s.finite = true;
  for (size_t b = 0; b < s.buckets.size(); ++b) s.finite &= s.sum_bucket(b, compute);
  if (s.comm.place().nodes > 1 && s.mode != ReduceMode::mpi) s.comm.node().barrier();
  s.filled_before += s.buckets.size();
}

View HostGradientReducer::sums(Range elements) const { return state_->view(elements); }

bool HostGradientReducer::sums_are_finite() const { return state_->finite; }

Range HostGradientReducer::looked_at(size_t bucket) const {
  return state_->bucket(bucket).sums[size_t(state_->comm.rank())];
}

View HostGradientReducer::gathered(size_t bucket, Range elements, const View& scratch, Stream&) const {
  const State& s = *state_;
  const Shape shape{elements.size()};
  float* next = data<float>(scratch);
  for (int rank = 0; rank < s.comm.size(); ++rank) {
    // Several nodes, and MPI, leave the whole sum in one arena; otherwise each rank has its slice in its own arena.
    const bool whole = s.mode == ReduceMode::mpi || s.comm.place().nodes > 1;
    const Range slice = whole ? elements : s.bucket(bucket).sums[size_t(rank)];
    float* sums = whole ? s.sums() : s.arenas.at(rank, 0);
    const int64_t first = std::max(elements.begin, slice.begin), last = std::min(elements.end, slice.end);
    if (first == elements.begin && last == elements.end) return {sums + first, DType::f32, DeviceKind::cpu, shape};
    if (first < last) next = std::copy_n(sums + first, last - first, next);
  }
  return {scratch.data, DType::f32, DeviceKind::cpu, shape};
}

}  // namespace lockstep
