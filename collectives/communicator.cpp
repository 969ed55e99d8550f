// SPDX-License-Identifier: Apache-2.0
#include "collectives/communicator.h"

#include <algorithm>

namespace lockstep {

namespace {
Place place_of(int rank, const Roster& roster) {
  Place place{.host = roster.hosts[size_t(rank)], .node = roster.node_of[size_t(rank)], .local_size = 0};
  place.nodes = *std::max_element(roster.node_of.begin(), roster.node_of.end()) + 1;
  for (int other = 0; other < int(roster.node_of.size()); ++other) {
    if (roster.node_of[size_t(other)] != place.node) continue;
    if (other < rank) ++place.local_rank;
    ++place.local_size;
  }
  return place;
}
}  // namespace

Communicator::Communicator(int rank, Roster roster)
    : rank_(rank),
      size_(int(roster.node_of.size())),
      roster_(std::move(roster)),
      place_(place_of(rank, roster_)),
      log_(size_) {}

std::string Communicator::describe(int rank) const {
  return str("rank ", rank, " (", roster_.hosts[size_t(rank)], ")");
}

void Communicator::check_host(const ConstView& view, std::string_view kind) const {
  check(view.device == DeviceKind::cpu, ErrorCode::collective, [&] {
    return str(kind, ": expected host memory, got a view on a CUDA device; the transport '", transport(),
               "' carries host memory only");
  });
  check(view.data != nullptr || view.size() == 0, ErrorCode::collective,
        [&] { return str(kind, ": the view of ", view.size(), " elements has no memory"); });
}

Work Communicator::all_reduce(View inout, ReduceOp op, Stream& after, std::source_location where) {
  check_host(inout, "all_reduce");
  log_.enter({.kind = CollectiveKind::all_reduce, .dtype = inout.dtype, .op = op, .bytes = inout.bytes()}, where);
  return do_all_reduce(inout, op, after);
}

Work Communicator::reduce_scatter(ConstView in, View out, ReduceOp op, Stream& after, std::source_location where) {
  check_host(in, "reduce_scatter");
  check_host(out, "reduce_scatter");
  check(in.size() == size_ * out.size(), ErrorCode::collective, [&] {
    return str("reduce_scatter: input of ", in.size(), " elements is not ", size_, " x ", out.size(),
               "; pad the input to a multiple of the ranks");
  });
  check(in.dtype == out.dtype, ErrorCode::collective,
        [&] { return str("reduce_scatter: input is ", to_string(in.dtype), ", output ", to_string(out.dtype)); });
  log_.enter({.kind = CollectiveKind::reduce_scatter, .dtype = in.dtype, .op = op, .bytes = in.bytes()}, where);
  return do_reduce_scatter(in, out, op, after);
}

Work Communicator::all_gather(ConstView in, View out, Stream& after, std::source_location where) {
  check_host(in, "all_gather");
  check_host(out, "all_gather");
  check(out.size() == size_ * in.size(), ErrorCode::collective, [&] {
    return str("all_gather: output of ", out.size(), " elements is not ", size_, " x ", in.size(),
               "; give the output room for one input per rank");
  });
  check(in.dtype == out.dtype, ErrorCode::collective,
        [&] { return str("all_gather: input is ", to_string(in.dtype), ", output ", to_string(out.dtype)); });
  log_.enter({.kind = CollectiveKind::all_gather, .dtype = in.dtype, .bytes = out.bytes()}, where);
  return do_all_gather(in, out, after);
}

Work Communicator::broadcast(View inout, int root, Stream& after, std::source_location where) {
  check_host(inout, "broadcast");
  check(root >= 0 && root < size_, ErrorCode::collective,
        [&] { return str("broadcast: root ", root, " is not a rank; expected 0 to ", size_ - 1); });
  log_.enter({.kind = CollectiveKind::broadcast, .dtype = inout.dtype, .root = root, .bytes = inout.bytes()}, where);
  return do_broadcast(inout, root, after);
}

void Communicator::barrier() { do_barrier(); }

std::vector<std::string> Communicator::all_gather_bytes(std::string_view mine) { return do_all_gather_bytes(mine); }

void Communicator::exchange(std::span<const Outgoing> sends, std::span<const Incoming> receives) {
  const auto check_peer = [&](int peer) {
    check(peer >= 0 && peer < size_ && peer != rank_, ErrorCode::collective,
          [&] { return str("exchange: rank ", rank_, " of ", size_, " has no peer ", peer); });
  };
  for (const Outgoing& send : sends) check_peer(send.rank);
  for (const Incoming& receive : receives) check_peer(receive.rank);
  do_exchange(sends, receives);
}

void Communicator::vendor_all_reduce(View inout, ReduceOp op, std::source_location where) {
  check_host(inout, "vendor_all_reduce");
  log_.enter({.kind = CollectiveKind::all_reduce, .dtype = inout.dtype, .op = op, .bytes = inout.bytes()}, where);
  do_vendor_all_reduce(inout, op);
}

std::unique_ptr<Communicator> Communicator::split(int color, int key) { return do_split(color, key); }

std::unique_ptr<SharedWindow> Communicator::allocate_shared(int64_t bytes) {
  check(bytes >= 0, ErrorCode::collective, [&] { return str("allocate_shared: ", bytes, " bytes"); });
  return do_allocate_shared(bytes);
}

}  // namespace lockstep
