// SPDX-License-Identifier: Apache-2.0
#include "collectives/device_mesh.h"

namespace lockstep {

DeviceMesh::DeviceMesh(Communicator& ranks, std::vector<MeshAxis> axes, Device device, DeviceTransport transport)
    : ranks_(ranks), axes_(std::move(axes)) {
  check_mesh(axes_, ranks.size());
  const std::vector<int> coordinates = mesh_coordinates(axes_, ranks.rank());
  for (size_t i = 0; i < axes_.size(); ++i) {
    // Ranks that agree on all other axes belong together; their color is the rank with coordinate 0 on this one.
    int color = 0;
    for (size_t j = 0; j < axes_.size(); ++j) color = color * axes_[j].size + (j == i ? 0 : coordinates[j]);
    Communicator& host = *communicators_.emplace_back(ranks.split(color, coordinates[i]));
    DeviceCommunicator* on_device = nullptr;
    if (device.kind != DeviceKind::cpu)
      on_device = device_communicators_.emplace_back(make_device_communicator(host, device, transport)).get();
    groups_.emplace_back(axes_[i].name, host, on_device);
  }
}

}  // namespace lockstep
