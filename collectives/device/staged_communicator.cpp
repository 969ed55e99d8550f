// SPDX-License-Identifier: Apache-2.0
// Collectives of GPUs through memory of the host, for machines without NCCL and for ranks that share a GPU. A rank's
// operands go to the host at once, in stream order; the ranks meet when somebody waits for the result.
#include <algorithm>
#include <vector>

#include "collectives/device/device_transports.h"
#include "kernels/device/transfer.h"

namespace lockstep {

namespace {

// Bytes of the device and their place on the host.
struct Piece {
  void* device;
  std::byte* host;
  int64_t bytes;
};

// One collective from start to end.
struct Journey {
  std::vector<Piece> down;        // copied to the host, before on_host()
  std::function<void()> on_host;  // the ranks meet here
  std::vector<Piece> up;          // copied to the device, after it
  std::shared_ptr<PinnedBuffer> memory;
};

// Note [Pinned memory in turn]. A buffer may be taken again when its last copies to the device are queued, not done.
// Its next user queues a mark on the same stream and waits for it before the host touches the buffer: then those copies
// are done.
class StagedCommunicator final : public DeviceCommunicator {
 public:
  StagedCommunicator(Communicator& ranks, Device device)
      // This communicator is separate, so that what it carries is in no trace of ranks().
      : DeviceCommunicator(ranks, device), host_(ranks.split(0, ranks.rank())), cpu_(Stream::cpu()) {}
  ~StagedCommunicator() override;

  std::string_view transport() const override { return "staged"; }
  bool recordable() const override { return false; }
  void abandon() noexcept override {}  // only the host waits for other ranks

 private:
  void do_wait(const std::function<bool()>& done, const std::string& what) override;
  Work do_all_reduce(View inout, ReduceOp op, Stream& after) override;
  Work do_reduce_scatter(ConstView in, View out, ReduceOp op, Stream& after) override;
  Work do_all_gather(ConstView in, View out, Stream& after) override;
  Work do_broadcast(View inout, int root, Stream& after) override;
  Work do_exchange(std::span<const Outgoing> sends, std::span<const Incoming> receives, Stream& after) override;

  std::shared_ptr<PinnedBuffer> take_memory(int64_t bytes);
  Work start(Journey journey, std::string_view kind, Stream& after);
  void finish(const Journey& journey, const Event& arrived, std::string_view kind);
  Work copy_within_rank(ConstView in, View out, Stream& after);

  std::unique_ptr<Communicator> host_;
  Stream cpu_;
  std::vector<std::shared_ptr<PinnedBuffer>> memory_;  // free when nobody else holds it
};

StagedCommunicator::~StagedCommunicator() {
  try {
    stream().synchronize();  // queued copies still use the pinned memory
  } catch (const std::exception&) {
    // The device has failed: nothing is queued any more.
  }
}

void StagedCommunicator::do_wait(const std::function<bool()>& done, const std::string& what) {
  wait_until(done, [&] { return what; });
}

std::shared_ptr<PinnedBuffer> StagedCommunicator::take_memory(int64_t bytes) {
  for (const auto& buffer : memory_)
    if (buffer.use_count() == 1 && buffer->bytes() >= bytes) return buffer;
  return memory_.emplace_back(std::make_shared<PinnedBuffer>(stream().device(), bytes));
}

Work StagedCommunicator::start(Journey journey, std::string_view kind, Stream& after) {
  follow(after);
  for (const Piece& piece : journey.down) copy(stream(), piece.host, piece.device, piece.bytes);
  return Work([this, journey = std::move(journey), arrived = mark(), kind](Stream& waiting) {
    finish(journey, *arrived, kind);
    work_of_stream().wait(waiting);
  });
}

void StagedCommunicator::finish(const Journey& journey, const Event& arrived, std::string_view kind) {
  wait_until([&] { return arrived.reached(); }, [&] { return str("its GPU to give what ", kind, " takes"); });
  host_->set_timeout(ranks().timeout());
  journey.on_host();
  for (const Piece& piece : journey.up) copy(stream(), piece.device, piece.host, piece.bytes);
}

Work StagedCommunicator::copy_within_rank(ConstView in, View out, Stream& after) {
  follow(after);
  if (in.data != out.data) copy(stream(), out, in);
  return work_of_stream();
}

Work StagedCommunicator::do_all_reduce(View inout, ReduceOp op, Stream& after) {
  if (size() == 1 || inout.size() == 0) return copy_within_rank(inout, inout, after);
  const auto memory = take_memory(inout.bytes());
  const View host = memory->view(inout.dtype, inout.shape);
  const Piece piece{inout.data, static_cast<std::byte*>(host.data), inout.bytes()};
  return start({.down = {piece},
                .on_host = [this, host, op] { host_->all_reduce(host, op, cpu_).wait(cpu_); },
                .up = {piece},
                .memory = memory},
               "all_reduce", after);
}

// The host's copy of `in`, and of `out` behind it.
struct InAndOut {
  View in, out;
  std::byte* in_bytes() const { return static_cast<std::byte*>(in.data); }
  std::byte* out_bytes() const { return static_cast<std::byte*>(out.data); }
};
InAndOut lay_out(const PinnedBuffer& memory, const ConstView& in, const View& out) {
  // Both have one dtype, so `out` is aligned where `in` ends.
  return {memory.view(in.dtype, in.shape),
          {static_cast<std::byte*>(memory.data()) + in.bytes(), out.dtype, DeviceKind::cpu, out.shape}};
}

Work StagedCommunicator::do_reduce_scatter(ConstView in, View out, ReduceOp op, Stream& after) {
  if (size() == 1 || in.size() == 0) return copy_within_rank(in, out, after);
  const auto memory = take_memory(in.bytes() + out.bytes());
  const InAndOut host = lay_out(*memory, in, out);
  return start({.down = {{const_cast<void*>(in.data), host.in_bytes(), in.bytes()}},
                .on_host = [this, host, op] { host_->reduce_scatter(host.in, host.out, op, cpu_).wait(cpu_); },
                .up = {{out.data, host.out_bytes(), out.bytes()}},
                .memory = memory},
               "reduce_scatter", after);
}

Work StagedCommunicator::do_all_gather(ConstView in, View out, Stream& after) {
  if (size() == 1 || in.size() == 0) return copy_within_rank(in, out, after);
  const auto memory = take_memory(in.bytes() + out.bytes());
  const InAndOut host = lay_out(*memory, in, out);
  return start({.down = {{const_cast<void*>(in.data), host.in_bytes(), in.bytes()}},
                .on_host = [this, host] { host_->all_gather(host.in, host.out, cpu_).wait(cpu_); },
                .up = {{out.data, host.out_bytes(), out.bytes()}},
                .memory = memory},
               "all_gather", after);
}

Work StagedCommunicator::do_broadcast(View inout, int root, Stream& after) {
  if (size() == 1 || inout.size() == 0) return copy_within_rank(inout, inout, after);
  const auto memory = take_memory(inout.bytes());
  const View host = memory->view(inout.dtype, inout.shape);
  Journey journey{.down = {},
                  .on_host = [this, host, root] { host_->broadcast(host, root, cpu_).wait(cpu_); },
                  .up = {},
                  .memory = memory};
  const Piece piece{inout.data, static_cast<std::byte*>(host.data), inout.bytes()};
  (rank() == root ? journey.down : journey.up).push_back(piece);
  return start(std::move(journey), "broadcast", after);
}

// Lays out the host's memory and messages of one direction, from `next` on: all that goes to, or comes from, one rank
// is one message.
template <class DeviceMessage, class HostMessage>
std::byte* lay_out(std::span<const DeviceMessage> messages, std::byte* next, std::vector<Piece>& pieces,
                   std::vector<HostMessage>& on_host) {
  std::vector<const DeviceMessage*> by_rank;
  for (const DeviceMessage& message : messages)
    if (message.bytes > 0) by_rank.push_back(&message);
  std::ranges::stable_sort(by_rank, {}, &DeviceMessage::rank);
  for (const DeviceMessage* message : by_rank) {
    if (on_host.empty() || on_host.back().rank != message->rank) on_host.push_back({message->rank, next, 0});
    on_host.back().bytes += message->bytes;
    pieces.push_back({const_cast<void*>(message->data), next, message->bytes});
    next += message->bytes;
  }
  return next;
}

Work StagedCommunicator::do_exchange(std::span<const Outgoing> sends, std::span<const Incoming> receives,
                                     Stream& after) {
  int64_t bytes = 0;
  for (const Outgoing& send : sends) bytes += send.bytes;
  for (const Incoming& receive : receives) bytes += receive.bytes;
  if (bytes == 0) return copy_within_rank({}, {}, after);
  Journey journey{.down = {}, .on_host = {}, .up = {}, .memory = take_memory(bytes)};
  std::vector<Outgoing> outgoing;
  std::vector<Incoming> incoming;
  std::byte* end = lay_out(sends, static_cast<std::byte*>(journey.memory->data()), journey.down, outgoing);
  lay_out(receives, end, journey.up, incoming);
  journey.on_host = [this, outgoing, incoming] { host_->exchange(outgoing, incoming); };
  return start(std::move(journey), "exchange", after);
}

}  // namespace

std::unique_ptr<DeviceCommunicator> make_staged_communicator(Communicator& ranks, Device device) {
  return std::make_unique<StagedCommunicator>(ranks, device);
}

}  // namespace lockstep
