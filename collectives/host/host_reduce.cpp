// SPDX-License-Identifier: Apache-2.0
// The reductions of HostCommunicator. The arrays of all ranks lie in shared memory at equal offsets (staged there if
// need be); each rank reduces one slice of all of them, in rank order, and writes it to all of them.
#include <algorithm>

#include "collectives/host/combine.h"
#include "collectives/host/copy_bytes.h"
#include "collectives/host/host_communicator.h"
#include "kernels/parallel.h"

namespace lockstep {

namespace {
// Slices start on cache lines.
constexpr int64_t kLineBytes = 64;
}  // namespace

Work HostCommunicator::do_all_reduce(View inout, ReduceOp op, Stream& after) {
  if (size() == 1) return Work();
  if (inout.bytes() <= kMailBytes && place().nodes == 1) {
    reduce_small(inout, op);
  } else if (const OwnSegment* own = find_window(inout)) {
    const int64_t offset = static_cast<std::byte*>(inout.data) - own->begin;
    const CollectiveCall call{.kind = CollectiveKind::all_reduce,
                              .dtype = inout.dtype,
                              .op = op,
                              .count = inout.size(),
                              .place = own->id << 48 | offset};
    node_->meet(call);
    reduce_segments(*own->window, offset, call, after.threads());
  } else {
    reduce_staged(inout, op, after.threads());
  }
  return Work();
}

void HostCommunicator::reduce_small(View inout, ReduceOp op) {
  ++mail_turn_;
  copy_bytes(mail(place().local_rank), inout.data, inout.bytes());
  node_->meet({.kind = CollectiveKind::all_reduce, .dtype = inout.dtype, .op = op, .count = inout.size()});
  const void* letters[64];
  std::vector<const void*> many;
  std::span<const void*> ins(letters, size_t(std::min(size(), 64)));
  if (size() > 64) {
    many.resize(size_t(size()));
    ins = many;
  }
  for (int i = 0; i < size(); ++i) ins[size_t(i)] = mail(i);
  void* const out = inout.data;
  combine(inout.dtype, op, {&out, 1}, ins, inout.size());
}

void HostCommunicator::reduce_staged(View inout, ReduceOp op, int threads) {
  const int64_t chunk = kStageBytes / size_of(inout.dtype);
  const CollectiveCall whole{.kind = CollectiveKind::all_reduce, .dtype = inout.dtype, .op = op, .count = inout.size()};
  CollectiveCall piece = whole;
  for (int64_t begin = 0; begin < inout.size(); begin += chunk) {
    const View part = slice(inout, begin, std::min(inout.size(), begin + chunk));
    const int64_t offset = next_stage();
    void* stage = static_cast<std::byte*>(memory_->segment(place().local_rank)) + offset;
    copy_bytes(stage, part.data, part.bytes());
    node_->meet(whole);
    piece.count = part.size();
    reduce_segments(*memory_, offset, piece, threads);
    copy_bytes(part.data, stage, part.bytes());
  }
}

void HostCommunicator::reduce_segments(const SharedWindow& window, int64_t offset, const CollectiveCall& call,
                                       int threads) {
  const int64_t width = size_of(call.dtype);
  const auto ranks = size_t(place().local_size);
  std::vector<std::byte*> copies(ranks);
  for (size_t i = 0; i < ranks; ++i) copies[i] = static_cast<std::byte*>(window.segment(int(i))) + offset;
  const Range own = part_of(call.count, place().local_rank, place().local_size, kLineBytes / width);
  const auto reduce = [&](int64_t begin, int64_t end) {
    std::vector<void*> at(ranks);
    for (size_t i = 0; i < ranks; ++i) at[i] = copies[i] + (own.begin + begin) * width;
    const std::vector<const void*> ins(at.begin(), at.end());
    combine(call.dtype, call.op, at, ins, end - begin);
  };
  if (own.size() < cpu::kParallelElements) {
    reduce(0, own.size());
  } else {
    cpu::parallel_ranges(threads, own.size(), kLineBytes, reduce);
  }
  node_->barrier();
  if (place().nodes == 1) return;
  reduce_across_nodes(copies, call);
  node_->barrier();
}

// Every rank of the node holds the sum of its node. Lane l, the l-th rank of each node, takes the l-th slice, cuts it
// into one part per node, sums its own part over nodes in their order, and hands the sums round.
void HostCommunicator::reduce_across_nodes(std::span<std::byte* const> copies, const CollectiveCall& call) {
  const int lane = place().local_rank, nodes = place().nodes, here = place().node;
  if (lane >= lanes_) return;
  const int64_t width = size_of(call.dtype);
  const Range slice = part_of(call.count, lane, lanes_, kLineBytes / width);
  std::byte* mine = copies[size_t(lane)] + slice.begin * width;
  const auto part = [&](int node) { return part_of(slice.size(), node, nodes, kLineBytes / width); };
  const Range own = part(here);
  std::vector<std::byte> arrived(size_t(nodes * own.size() * width));
  std::vector<const void*> ins(static_cast<size_t>(nodes), mine + own.begin * width);
  std::vector<Outgoing> sends, sums_out;
  std::vector<Incoming> receives, sums_in;
  for (int node = 0; node < nodes; ++node) {
    if (node == here) continue;
    const int peer = ranks_of_node_[size_t(node)][size_t(lane)];
    const Range theirs = part(node);
    std::byte* letter = arrived.data() + node * own.size() * width;
    ins[size_t(node)] = letter;
    sends.push_back({peer, mine + theirs.begin * width, theirs.size() * width});
    receives.push_back({peer, letter, own.size() * width});
    sums_out.push_back({peer, mine + own.begin * width, own.size() * width});
    sums_in.push_back({peer, mine + theirs.begin * width, theirs.size() * width});
  }
  do_exchange(sends, receives);
  void* const sum = mine + own.begin * width;
  combine(call.dtype, call.op, {&sum, 1}, ins, own.size());
  do_exchange(sums_out, sums_in);
  for (size_t i = 0; i < copies.size(); ++i)
    if (int(i) != lane) copy_bytes(copies[i] + slice.begin * width, mine, slice.size() * width);
}

Work HostCommunicator::do_reduce_scatter(ConstView in, View out, ReduceOp op, Stream& after) {
  if (place().nodes == 1) {
    scatter_within_node(in, out, op);
    return Work();
  }
  // Between nodes this is an all-reduce; gradients go another way (gradients/host_gradient_reducer.cpp).
  std::vector<std::byte> copy(size_t(in.bytes()));
  copy_bytes(copy.data(), in.data, in.bytes());
  do_all_reduce({copy.data(), in.dtype, DeviceKind::cpu, in.shape}, op, after).wait(after);
  copy_bytes(out.data, copy.data() + rank() * out.bytes(), out.bytes());
  return Work();
}

void HostCommunicator::scatter_within_node(ConstView in, View out, ReduceOp op) {
  const int64_t width = size_of(in.dtype), chunk = kStageBytes / width / size();
  const CollectiveCall call{.kind = CollectiveKind::reduce_scatter, .dtype = in.dtype, .op = op, .count = out.size()};
  for (int64_t begin = 0; begin < out.size() || begin == 0; begin += chunk) {
    const int64_t offset = next_stage(), n = std::min(chunk, out.size() - begin);
    const auto piece = [&](int from, int to) {
      return static_cast<std::byte*>(memory_->segment(from)) + offset + to * n * width;
    };
    for (int to = 0; to < size(); ++to) {
      const auto* source = static_cast<const std::byte*>(in.data) + (to * out.size() + begin) * width;
      copy_bytes(piece(rank(), to), source, n * width);
    }
    node_->meet(call);
    std::vector<const void*> ins;
    for (int from = 0; from < size(); ++from) ins.push_back(piece(from, rank()));
    void* const sum = static_cast<std::byte*>(out.data) + begin * width;
    combine(in.dtype, op, {&sum, 1}, ins, n);
  }
}

}  // namespace lockstep
