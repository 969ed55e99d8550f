// SPDX-License-Identifier: Apache-2.0
// Where a rank computes: the CPU with some of its cores, or a GPU.
#pragma once

#include <string_view>

#include "collectives/communicator.h"
#include "collectives/device/device_communicator.h"

namespace lockstep {

struct RunDevice {
  Device device = {};
  DeviceTransport transport = DeviceTransport::automatic;  // of gradients between GPUs
  int threads = 1;                                         // on the CPU
  Stream stream() const { return device.kind == DeviceKind::cpu ? Stream::cpu(threads) : Stream::cuda(device.index); }
};

// "cpu", or "cuda" where this machine has a GPU. Error(usage) for another name, Error(device) that says why there is
// none.
DeviceKind parse_device(std::string_view device);

// Collective. `threads`: 0 for OMP_NUM_THREADS or, without it, the cores that the rank may use. Error(usage), and
// Error(device) or Error(launch) where ranks and GPUs do not fit.
RunDevice choose_run_device(Communicator& ranks, std::string_view device, DeviceTransport transport, int64_t threads);

// Collective. The number of threads that OMP_NUM_THREADS asks for; without it the cores this rank may use, divided
// among the ranks that may use the same ones.
int default_threads(Communicator& ranks);

// What a plan is told about nodes: the ranks of the first node if there are several nodes, otherwise 0.
int64_t ranks_per_node(const Communicator& ranks);

}  // namespace lockstep
