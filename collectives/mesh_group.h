// SPDX-License-Identifier: Apache-2.0
// The ranks along one axis of a mesh behind one handle. A collective goes over memory of the host or of the devices,
// wherever its operands lie, so that code above needs only the name of the axis.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "collectives/communicator.h"
#include "collectives/device/device_communicator.h"
#include "collectives/mesh_axis.h"

namespace lockstep {

// A light value that owns nothing; its copies use the same communicators.
class MeshGroup {
 public:
  // `host` and `device` outlive the group. `device` is a communicator of the same ranks, or null for ranks without a
  // device. `host` takes the name of the group.
  MeshGroup(std::string name, Communicator& host, DeviceCommunicator* device = nullptr);
  // A group that talks to nobody, for streams that rehearse on machines without those ranks. `rank` is the coordinate
  // on the axis.
  static MeshGroup rehearsal(const MeshAxis& axis, int rank = 0);

  const std::string& name() const { return name_; }
  int rank() const { return rank_; }
  int size() const { return size_; }
  Communicator& host() const;  // Error(internal) for a group that only rehearses
  DeviceCommunicator* device() const { return device_; }

  // As in Communicator and DeviceCommunicator, with their order of additions and their errors. The operands of one call
  // lie on one device, and `after` is a stream of it. Error(collective) for memory of a device if the group has no
  // communicator for devices. Where `after` only rehearses, nothing is sent, and nothing is entered into the log.
  Work all_reduce(View inout, ReduceOp op, Stream& after,
                  std::source_location where = std::source_location::current()) const;
  Work reduce_scatter(
      ConstView whole, View part, ReduceOp op, Stream& after,
      std::source_location where = std::source_location::current()) const;  // whole.size() == size() * part
  Work all_gather(ConstView part, View whole, Stream& after,
                  std::source_location where = std::source_location::current()) const;  // whole.size() == size() * part
  Work broadcast(View inout, int root, Stream& after,
                 std::source_location where = std::source_location::current()) const;
  // Messages between memory of the device that `after` belongs to.
  Work exchange(std::span<const Outgoing> sends, std::span<const Incoming> receives, Stream& after) const;

 private:
  MeshGroup(std::string name, int rank, int size) : name_(std::move(name)), rank_(rank), size_(size) {}
  DeviceCommunicator& device_for(std::string_view call) const;

  std::string name_;
  int rank_, size_;
  Communicator* host_ = nullptr;
  DeviceCommunicator* device_ = nullptr;
};

// Returns the group of that axis. Error(plan) lists the axes there are.
const MeshGroup& find_group(std::span<const MeshGroup> groups, std::string_view axis);

}  // namespace lockstep
