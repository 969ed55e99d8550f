// SPDX-License-Identifier: Apache-2.0
#include "collectives/device/device_communicator.h"

#include <algorithm>

#include "collectives/host/node_group.h"

namespace lockstep {

DeviceCommunicator::DeviceCommunicator(Communicator& ranks, Device device)
    : ranks_(ranks), stream_(Stream::cuda(device.index, /*urgent=*/true)), before_(device) {}

void DeviceCommunicator::check_call(std::string_view kind, const Stream& after) const {
  check(after.device() == stream_.device(), ErrorCode::collective, [&] {
    return str(kind, ": expected a stream of ", to_string(stream_.device()), ", the device of rank ", rank(),
               ", got one of ", to_string(after.device()));
  });
}

void DeviceCommunicator::check_operand(std::string_view kind, const ConstView& view) const {
  check(view.device == DeviceKind::cuda, ErrorCode::collective, [&] {
    return str(kind, ": expected memory of ", to_string(stream_.device()),
               ", got a view on memory of the host; the "
               "collectives of ranks() carry that");
  });
  check(view.data != nullptr || view.size() == 0, ErrorCode::collective,
        [&] { return str(kind, ": the view of ", view.size(), " elements has no memory"); });
}

namespace {

void check_parts(std::string_view kind, const ConstView& whole, const ConstView& part, int ranks,
                 std::string_view remedy) {
  check(whole.size() == ranks * part.size(), ErrorCode::collective, [&] {
    return str(kind, ": ", whole.size(), " elements of all ranks are not ", ranks, " x ", part.size(), "; ", remedy);
  });
  check(whole.dtype == part.dtype, ErrorCode::collective, [&] {
    return str(kind, ": expected one dtype, got ", to_string(whole.dtype), " for all ranks and ", to_string(part.dtype),
               " for one");
  });
}

}  // namespace

Work DeviceCommunicator::all_reduce(View inout, ReduceOp op, Stream& after, std::source_location where) {
  check_call("all_reduce", after);
  check_operand("all_reduce", inout);
  ranks_.log().enter({.kind = CollectiveKind::all_reduce, .dtype = inout.dtype, .op = op, .bytes = inout.bytes()},
                     where);
  return do_all_reduce(inout, op, after);
}

Work DeviceCommunicator::reduce_scatter(ConstView in, View out, ReduceOp op, Stream& after,
                                        std::source_location where) {
  check_call("reduce_scatter", after);
  check_operand("reduce_scatter", in);
  check_operand("reduce_scatter", out);
  check_parts("reduce_scatter", in, out, size(), "pad the input to a multiple of the ranks");
  ranks_.log().enter({.kind = CollectiveKind::reduce_scatter, .dtype = in.dtype, .op = op, .bytes = in.bytes()}, where);
  return do_reduce_scatter(in, out, op, after);
}

Work DeviceCommunicator::all_gather(ConstView in, View out, Stream& after, std::source_location where) {
  check_call("all_gather", after);
  check_operand("all_gather", in);
  check_operand("all_gather", out);
  check_parts("all_gather", out, in, size(), "give the output room for one input per rank");
  ranks_.log().enter({.kind = CollectiveKind::all_gather, .dtype = out.dtype, .bytes = out.bytes()}, where);
  return do_all_gather(in, out, after);
}

Work DeviceCommunicator::broadcast(View inout, int root, Stream& after, std::source_location where) {
  check_call("broadcast", after);
  check_operand("broadcast", inout);
  check(root >= 0 && root < size(), ErrorCode::collective,
        [&] { return str("broadcast: root ", root, " is not a rank; expected 0 to ", size() - 1); });
  ranks_.log().enter({.kind = CollectiveKind::broadcast, .dtype = inout.dtype, .root = root, .bytes = inout.bytes()},
                     where);
  return do_broadcast(inout, root, after);
}

Work DeviceCommunicator::exchange(std::span<const Outgoing> sends, std::span<const Incoming> receives, Stream& after) {
  check_call("exchange", after);
  const auto check_message = [&](int peer, const void* data, int64_t bytes) {
    check(peer >= 0 && peer < size() && peer != rank(), ErrorCode::collective,
          [&] { return str("exchange: rank ", rank(), " of ", size(), " has no peer ", peer); });
    check(bytes == 0 || (bytes > 0 && data != nullptr), ErrorCode::collective,
          [&] { return str("exchange: a message of ", bytes, " bytes with rank ", peer, " has no memory"); });
  };
  for (const Outgoing& send : sends) check_message(send.rank, send.data, send.bytes);
  for (const Incoming& receive : receives) check_message(receive.rank, receive.data, receive.bytes);
  return do_exchange(sends, receives, after);
}

void DeviceCommunicator::follow(Stream& after) {
  before_.record(after);
  stream_.wait(before_);
}

std::shared_ptr<Event> DeviceCommunicator::mark() {
  auto spare = std::ranges::find_if(marks_, [](const auto& mark) { return mark.use_count() == 1; });
  if (spare == marks_.end()) spare = marks_.insert(spare, std::make_shared<Event>(stream_.device()));
  (*spare)->record(stream_);
  return *spare;
}

Work DeviceCommunicator::work_of_stream() {
  return Work([done = mark()](Stream& stream) { stream.wait(*done); });
}

void DeviceCommunicator::synchronize(Stream& stream) {
  do_wait([&] { return stream.idle(); }, "its GPU");
}

void DeviceCommunicator::wait_for(const Event& mark) {
  do_wait([&] { return mark.reached(); }, "an earlier step on its GPU");
}

void DeviceCommunicator::wait_until(const std::function<bool()>& done, const std::function<std::string()>& what) const {
  if (done()) return;
  Deadline deadline = ranks_.node().deadline();
  while (!done()) {
    check(deadline.pause(), ErrorCode::collective, [&] {
      return str(ranks_.describe(rank()), " waited ", double(ranks_.timeout().count()) / 1000, " s for ", what(), "; ",
                 ranks_.node().differing_calls(), "see whether another rank failed, is stopped, or left out a call");
    });
  }
}

}  // namespace lockstep
