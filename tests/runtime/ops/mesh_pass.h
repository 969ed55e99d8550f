// SPDX-License-Identifier: Apache-2.0
// What tests of ops over a mesh share: a recorded pass on one rank of a mesh, on every grouping of ranks and every
// transport.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <random>
#include <utility>
#include <vector>

#include "collectives/device_mesh.h"
#include "runtime/ops/ops.h"
#include "tests/support/device_ranks.h"

namespace lockstep {

using Values = std::vector<float>;

inline Values random_values(int64_t n, unsigned seed) {
  std::mt19937 random(seed);
  Values values(static_cast<size_t>(n));
  for (float& value : values) value = float(random()) * 0x1p-31f - 1;
  return values;
}

// One rank of a mesh, with a pass that is recorded in memory of its device.
class Pass {
 public:
  Pass(Communicator& ranks, std::vector<MeshAxis> axes, Device device = {},
       DeviceTransport transport = DeviceTransport::automatic)
      : stream_(device.kind == DeviceKind::cpu ? Stream::cpu() : Stream::cuda(device.index)),
        pool_(device),
        mesh_(ranks, std::move(axes), device, transport),
        context_(stream_, pool_, &tape_) {
    context_.set_groups(mesh_.groups());
  }

  const DeviceMesh& mesh() const { return mesh_; }
  Context& context() { return context_; }
  Tape& tape() { return tape_; }
  Pool& pool() { return pool_; }
  Tensor put(const Values& values, const Shape& shape) {
    Tensor tensor(pool_, DType::f32, shape, Purpose::data);
    copy(stream_, View(tensor).data, values.data(), View(tensor).bytes());
    stream_.synchronize();
    return tensor;
  }
  Values get(const ConstView& view) {
    Values values(static_cast<size_t>(view.size()));
    copy(stream_, values.data(), view.data, view.bytes());
    stream_.synchronize();
    return values;
  }
  Tensor variable(const Values& values, const Shape& shape) {
    Tensor tensor = put(values, shape);
    gradients_.emplace_back(pool_, DType::f32, shape, Purpose::gradients);
    tape_.watch(tensor, int32_t(gradients_.size()) - 1, gradients_.back());
    return tensor;
  }
  void backward(const Tensor& y, const Values& seed) { tape_.backward(context_, y, put(seed, y.shape()), nullptr); }
  View gradient(size_t variable) const { return gradients_[variable]; }

 private:
  Stream stream_;
  Pool pool_;
  DeviceMesh mesh_;
  Tape tape_;
  Context context_;
  std::vector<Tensor> gradients_;
};

using PassBody = std::function<void(Communicator&, Device, DeviceTransport)>;

inline void on_ranks_with_gpus(const PassBody& body) {
  for (const DeviceTransport transport : {DeviceTransport::nccl, DeviceTransport::staged}) {
    SCOPED_TRACE(transport == DeviceTransport::nccl ? "by NCCL" : "staged");
    const auto on_ranks = [&](Communicator& ranks) { body(ranks, choose_device(ranks, transport), transport); };
    if (Communicator* ranks = launched_ranks()) {
      if (can_run(transport, ranks->size())) on_ranks(*ranks);
      continue;
    }
    for (const int ranks : cases({1, 2, 4, 3}))
      if (can_run(transport, ranks)) run_ranks(ranks, on_ranks);
  }
}

inline void on_ranks_of_the_host(const PassBody& body) {
  on_every_group([&](Communicator& ranks) { body(ranks, {}, DeviceTransport::automatic); });
}

}  // namespace lockstep
