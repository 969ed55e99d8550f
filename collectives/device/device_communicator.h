// SPDX-License-Identifier: Apache-2.0
// Collectives on the memory of GPUs: the ranks of a Communicator, each with a device of its own, carried by NCCL, or
// staged through memory of the host. Code above cannot tell which.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "collectives/communicator.h"
#include "kernels/device/device.h"
#include "kernels/device/view.h"

namespace lockstep {

// Operands lie on the device of this rank. A collective is queued on stream() behind what `after` has been given so
// far, and does not keep the host; Work::wait(s) lets what `s` is given next come behind it, and may keep the host
// where staging takes the host's hands. Every rank issues the same sequence, and waits in the order it issued.
// Collectives are entered into the log of ranks(); who makes one of several calls enters it as a whole
// (CallLog::Parts).
//
// Used by one thread. Declare it behind the memory and the streams it works with: it goes first then, and after a
// failure ends what still waits on the device for other ranks, before anybody waits for that device.
class DeviceCommunicator {
 public:
  DeviceCommunicator(const DeviceCommunicator&) = delete;
  DeviceCommunicator& operator=(const DeviceCommunicator&) = delete;
  virtual ~DeviceCommunicator() = default;

  Communicator& ranks() const { return ranks_; }
  int rank() const { return ranks_.rank(); }
  int size() const { return ranks_.size(); }
  Stream& stream() { return stream_; }
  // "nccl", "staged"
  virtual std::string_view transport() const = 0;
  // Whether collectives can be recorded into a Graph.
  virtual bool recordable() const = 0;

  // Sums of floats: all ranks receive the same bits; the order of additions is the transport's.
  Work all_reduce(View inout, ReduceOp op, Stream& after, std::source_location where = std::source_location::current());
  // in.size() == size() * out.size(). `out` may be this rank's part of `in`; the rest of `in` is undefined then.
  Work reduce_scatter(ConstView in, View out, ReduceOp op, Stream& after,
                      std::source_location where = std::source_location::current());
  // out.size() == size() * in.size(). `in` may be this rank's part of `out`.
  Work all_gather(ConstView in, View out, Stream& after, std::source_location where = std::source_location::current());
  Work broadcast(View inout, int root, Stream& after, std::source_location where = std::source_location::current());
  // Messages to and from other ranks, all at once; the two sides agree on lengths. In the order given for each pair.
  Work exchange(std::span<const Outgoing> sends, std::span<const Incoming> receives, Stream& after);

  // For kernels of this rank between collectives, on stream(): lets stream() come behind what `after` has been given so
  // far, and lets whoever waits come behind what stream() has been given so far.
  void follow(Stream& after);
  Work work_of_stream();

  // Returns when `stream` (any stream of this rank) has done everything; looks after the health of the transport while
  // it waits. Error(collective) with the ranks' deadline or when the transport reports a failure: names the transport's
  // message and what this rank waited for. What still waits on the device for other ranks is ended then.
  void synchronize(Stream& stream);
  // The same for what came before a mark.
  void wait_for(const Event& mark);

 protected:
  // `ranks` outlives this.
  DeviceCommunicator(Communicator& ranks, Device device);
  // A mark behind what stream() has been given so far. It is used again when nobody holds it any more.
  std::shared_ptr<Event> mark();
  // Returns when done() says so. Error(collective) with the ranks' deadline, saying that this rank waited for what() in
  // vain, or when another rank has ended the run.
  void wait_until(const std::function<bool()>& done, const std::function<std::string()>& what) const;

 private:
  void check_call(std::string_view kind, const Stream& after) const;
  void check_operand(std::string_view kind, const ConstView& view) const;

  // Returns when done() says so, the way of synchronize().
  virtual void do_wait(const std::function<bool()>& done, const std::string& what) = 0;
  virtual Work do_all_reduce(View inout, ReduceOp op, Stream& after) = 0;
  virtual Work do_reduce_scatter(ConstView in, View out, ReduceOp op, Stream& after) = 0;
  virtual Work do_all_gather(ConstView in, View out, Stream& after) = 0;
  virtual Work do_broadcast(View inout, int root, Stream& after) = 0;
  virtual Work do_exchange(std::span<const Outgoing> sends, std::span<const Incoming> receives, Stream& after) = 0;

  Communicator& ranks_;
  Stream stream_;
  Event before_;
  std::vector<std::shared_ptr<Event>> marks_;
};

enum class DeviceTransport : uint8_t {
  automatic,  // NCCL where it is there, otherwise staged
  nccl,
  staged,  // several ranks may use one GPU
};
// Throws Error(usage) with the names there are.
DeviceTransport parse_device_transport(std::string_view name);

// The GPU of this rank: the one with its number among the ranks of its node, counted round where GPUs are shared.
// Collective; every rank decides alike. Error(device) where a rank finds no GPU, and Error(launch) with a table of
// rank, host and GPU where two ranks would share one and `transport` is not staged: before NCCL or any memory is
// touched.
Device choose_device(Communicator& ranks, DeviceTransport transport);

// Collective. `device` is the one that choose_device() gave. Error(device) where NCCL is asked for and missing, or
// older than the one this was built for: on every rank alike. Error(collective) where its ranks do not come together in
// time.
std::unique_ptr<DeviceCommunicator> make_device_communicator(Communicator& ranks, Device device,
                                                             DeviceTransport transport);

// What `lockstep doctor` says of NCCL: "NCCL 2.28.9 (libnccl.so.2)", or why there is none.
std::string describe_nccl();

}  // namespace lockstep
