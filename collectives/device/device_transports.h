// SPDX-License-Identifier: Apache-2.0
// The transports that can carry device collectives. nccl_library.cpp and nccl_communicator.cpp implement the one by
// NCCL; no_nccl.cpp takes their place. Internal to collectives/.
#pragma once

#include <memory>
#include <string>

#include "collectives/device/device_communicator.h"

namespace lockstep {

// NCCL as loaded at run time, so that one program runs on machines with and without it.
struct NcclLibrary;
// Loads the file that LOCKSTEP_NCCL_LIBRARY names, or the one that the system finds. Error(device) where it is missing,
// or older than the NCCL this was built for.
std::shared_ptr<const NcclLibrary> load_nccl();
std::string describe(const NcclLibrary& library);  // "NCCL 2.28.9 (libnccl.so.2)"

// Collective. Either the communicator or, on all ranks alike, why NCCL could not connect one of them.
struct NcclAttempt {
  std::unique_ptr<DeviceCommunicator> communicator;
  std::string problem;
};
NcclAttempt connect_by_nccl(Communicator& ranks, Device device, std::shared_ptr<const NcclLibrary> library);
// Collective.
std::unique_ptr<DeviceCommunicator> make_staged_communicator(Communicator& ranks, Device device);

}  // namespace lockstep
