// SPDX-License-Identifier: Apache-2.0
// Named axes over ranks, the only place where the name of an axis becomes communicators.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "collectives/mesh_group.h"

namespace lockstep {

class DeviceMesh {
 public:
  // Collective over `ranks`, which outlives the mesh. If `device` is a GPU, the one that choose_device() gave for
  // `transport`, every axis also gets a communicator for memory of the devices, with the errors of
  // make_device_communicator().
  DeviceMesh(Communicator& ranks, std::vector<MeshAxis> axes, Device device = {},
             DeviceTransport transport = DeviceTransport::automatic);

  const std::vector<MeshAxis>& axes() const { return axes_; }
  Communicator& ranks() const { return ranks_; }
  int size(std::string_view axis) const { return group(axis).size(); }
  int coordinate(std::string_view axis) const { return group(axis).rank(); }
  // The ranks that differ from this one on that axis alone, in order of their coordinate. Error(plan) lists the axes
  // there are.
  const MeshGroup& group(std::string_view axis) const { return find_group(groups_, axis); }
  // The groups in order of the axes, as Context::set_groups() wants them.
  const std::vector<MeshGroup>& groups() const { return groups_; }

 private:
  Communicator& ranks_;
  std::vector<MeshAxis> axes_;
  std::vector<std::unique_ptr<Communicator>> communicators_;
  std::vector<std::unique_ptr<DeviceCommunicator>> device_communicators_;  // destroyed before communicators_
  std::vector<MeshGroup> groups_;
};

}  // namespace lockstep
