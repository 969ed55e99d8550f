// SPDX-License-Identifier: Apache-2.0
// Collectives on the memory of GPUs, for the ranks of a Communicator that have a device each. NCCL carries them, or
// they are staged through memory of the host; code above cannot tell which.
#pragma once

#include <cstdint>
#include <exception>
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

// Operands lie on the device of this rank. A collective is queued on stream() behind the work that `after` has so far,
// and does not hold up the host. Work::wait(s) puts what `s` is given next behind it, and may hold up the host where
// staging needs the host's help. Every rank issues the same sequence, and waits in the order it issued. Collectives are
// entered into the log of ranks(); code that makes one of several calls enters it as a whole (CallLog::Parts).
//
// Used by one thread. Declare it after the memory and the streams it works with, so that it goes first: after a failure
// it ends what still waits on the device for other ranks, before anybody waits for that device.
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
  // What people should hear about the choice of the transport, equal on all ranks; empty where it is the usual one.
  const std::string& remark() const { return remark_; }
  void set_remark(std::string remark) { remark_ = std::move(remark); }

  // Sums of floats have the same bits on all ranks; the transport decides the order of additions.
  Work all_reduce(View inout, ReduceOp op, Stream& after, std::source_location where = std::source_location::current());
  // in.size() == size() * out.size(). `out` may be this rank's part of `in`; the rest of `in` is undefined then.
  Work reduce_scatter(ConstView in, View out, ReduceOp op, Stream& after,
                      std::source_location where = std::source_location::current());
  // out.size() == size() * in.size(). `in` may be this rank's part of `out`.
  Work all_gather(ConstView in, View out, Stream& after, std::source_location where = std::source_location::current());
  Work broadcast(View inout, int root, Stream& after, std::source_location where = std::source_location::current());
  // Sends and receives messages, all at once; the two sides agree on lengths. Each pair's go in the order given.
  Work exchange(std::span<const Outgoing> sends, std::span<const Incoming> receives, Stream& after);

  // For kernels of this rank between collectives, on stream(). follow() puts stream() behind what `after` has been
  // given so far; work_of_stream() puts those who wait behind what stream() has been given so far.
  void follow(Stream& after);
  Work work_of_stream();

  // Returns when `stream` (any stream of this rank) has done everything; it watches the health of the transport
  // meanwhile. Error(collective) at the ranks' deadline, or when the transport reports a failure, names the transport's
  // message and what this rank waited for, and ends what still waits on the device for other ranks.
  void synchronize(Stream& stream);
  // The same for the work before a mark.
  void wait_for(const Event& mark);

  // Ends what waits on the device for other ranks, and every collective after it. For a rank that leaves because it has
  // failed, before it frees memory: that waits for the device, and the others do not come any more.
  virtual void abandon() noexcept = 0;

 protected:
  // `ranks` outlives this.
  DeviceCommunicator(Communicator& ranks, Device device);
  // A mark behind what stream() has been given so far. It is reused when nobody holds it any more.
  std::shared_ptr<Event> mark();
  // Returns when done() is true. Error(collective) at the ranks' deadline, saying that this rank waited for what() in
  // vain, or when another rank has ended the run.
  void wait_until(const std::function<bool()>& done, const std::function<std::string()>& what) const;

 private:
  void check_call(std::string_view kind, const Stream& after) const;
  void check_operand(std::string_view kind, const ConstView& view) const;

  // Returns when done() is true, in the way of synchronize().
  virtual void do_wait(const std::function<bool()>& done, const std::string& what) = 0;
  virtual Work do_all_reduce(View inout, ReduceOp op, Stream& after) = 0;
  virtual Work do_reduce_scatter(ConstView in, View out, ReduceOp op, Stream& after) = 0;
  virtual Work do_all_gather(ConstView in, View out, Stream& after) = 0;
  virtual Work do_broadcast(View inout, int root, Stream& after) = 0;
  virtual Work do_exchange(std::span<const Outgoing> sends, std::span<const Incoming> receives, Stream& after) = 0;

  Communicator& ranks_;
  std::string remark_;
  Stream stream_;
  Event before_;
  std::vector<std::shared_ptr<Event>> marks_;
};

// Abandons the collectives of a device (null: none) when an exception leaves the scope. Declare it after whatever waits
// for the device when it is destroyed.
class AbandonOnFailure {
 public:
  explicit AbandonOnFailure(DeviceCommunicator* device) : device_(device) {}
  AbandonOnFailure(const AbandonOnFailure&) = delete;
  AbandonOnFailure& operator=(const AbandonOnFailure&) = delete;
  ~AbandonOnFailure() {
    if (device_ && std::uncaught_exceptions() > exceptions_) device_->abandon();
  }

 private:
  DeviceCommunicator* device_;
  int exceptions_ = std::uncaught_exceptions();
};

enum class DeviceTransport : uint8_t {
  automatic,  // NCCL where it is and connects the ranks, otherwise staged; one rank alone needs neither
  nccl,
  staged,  // several ranks may use one GPU
};
// Throws Error(usage) that lists the names.
DeviceTransport parse_device_transport(std::string_view name);

// Chooses the GPU of this rank: the one with its number among the ranks of its node, counted round where GPUs are
// shared. Collective; every rank decides alike. Error(device) where a rank finds no GPU. Error(launch) with a table of
// rank, host and GPU where two ranks would share one and `transport` is not staged, before NCCL or any memory is
// touched.
Device choose_device(Communicator& ranks, DeviceTransport transport);

// Collective. `device` is the one that choose_device() gave. Error(device), on every rank alike, where NCCL is asked
// for and missing, or older than the one this was built for. Error(collective), on every rank alike, where it cannot
// connect one of them in time.
std::unique_ptr<DeviceCommunicator> make_device_communicator(Communicator& ranks, Device device,
                                                             DeviceTransport transport);

// What `lockstep doctor` says of NCCL: "NCCL 2.28.9 (libnccl.so.2)", or why there is none.
std::string describe_nccl();

}  // namespace lockstep
