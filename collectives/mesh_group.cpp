// SPDX-License-Identifier: Apache-2.0
#include "collectives/mesh_group.h"

#include <algorithm>

namespace lockstep {

MeshGroup::MeshGroup(std::string name, Communicator& host, DeviceCommunicator* device)
    : name_(std::move(name)), rank_(host.rank()), size_(host.size()), host_(&host), device_(device) {
  check(device == nullptr || (device->rank() == rank_ && device->size() == size_), ErrorCode::internal, [&] {
    return str("the group '", name_, "' has ", size_, " ranks on the host, but ", device->size(), " with a device");
  });
  host.log().set_name(name_);
}

MeshGroup MeshGroup::rehearsal(const MeshAxis& axis, int rank) { return {axis.name, rank, axis.size}; }

Communicator& MeshGroup::host() const {
  check(host_ != nullptr, ErrorCode::internal,
        [&] { return str("the group '", name_, "' only rehearses: it has no ranks to talk to"); });
  return *host_;
}

DeviceCommunicator& MeshGroup::device_for(std::string_view call) const {
  check(device_ != nullptr, ErrorCode::collective, [&] {
    return str(call, " over '", name_, "': the operands lie on a device, but the mesh was made without one; give ",
               "DeviceMesh the device of this rank");
  });
  return *device_;
}

Work MeshGroup::all_reduce(View inout, ReduceOp op, Stream& after, std::source_location where) const {
  if (after.rehearses()) return Work();
  if (inout.device == DeviceKind::cpu) return host().all_reduce(inout, op, after, where);
  return device_for("all_reduce").all_reduce(inout, op, after, where);
}

Work MeshGroup::reduce_scatter(ConstView whole, View part, ReduceOp op, Stream& after,
                               std::source_location where) const {
  if (after.rehearses()) return Work();
  if (part.device == DeviceKind::cpu) return host().reduce_scatter(whole, part, op, after, where);
  return device_for("reduce_scatter").reduce_scatter(whole, part, op, after, where);
}

Work MeshGroup::all_gather(ConstView part, View whole, Stream& after, std::source_location where) const {
  if (after.rehearses()) return Work();
  if (whole.device == DeviceKind::cpu) return host().all_gather(part, whole, after, where);
  return device_for("all_gather").all_gather(part, whole, after, where);
}

Work MeshGroup::broadcast(View inout, int root, Stream& after, std::source_location where) const {
  if (after.rehearses()) return Work();
  if (inout.device == DeviceKind::cpu) return host().broadcast(inout, root, after, where);
  return device_for("broadcast").broadcast(inout, root, after, where);
}

Work MeshGroup::exchange(std::span<const Outgoing> sends, std::span<const Incoming> receives, Stream& after) const {
  if (after.rehearses()) return Work();
  if (after.device().kind != DeviceKind::cpu) return device_for("exchange").exchange(sends, receives, after);
  host().exchange(sends, receives);
  return Work();
}

const MeshGroup& find_group(std::span<const MeshGroup> groups, std::string_view axis) {
  const auto found = std::ranges::find(groups, axis, &MeshGroup::name);
  if (found != groups.end()) return *found;
  std::vector<MeshAxis> axes;
  for (const MeshGroup& group : groups) axes.push_back({group.name(), group.size()});
  fail(ErrorCode::plan, str("mesh '", describe_mesh(axes), "' has no axis '", axis, "'"));
}

}  // namespace lockstep
