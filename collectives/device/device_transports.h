// SPDX-License-Identifier: Apache-2.0
// What can carry device collectives. The door to NCCL: behind it are nccl_library.cpp and nccl_communicator.cpp, or
// no_nccl.cpp. Internal to collectives/.
#pragma once

#include <memory>
#include <string>

#include "collectives/device/device_communicator.h"

namespace lockstep {

// NCCL as loaded at run time, so that one program runs on machines with and without it.
struct NcclLibrary;
// The file that LOCKSTEP_NCCL_LIBRARY names, or the one the system finds. Error(device): missing, or older than the
// NCCL this was built for.
std::shared_ptr<const NcclLibrary> load_nccl();
std::string describe(const NcclLibrary& library);  // "NCCL 2.28.9 (libnccl.so.2)"

// Both collective.
std::unique_ptr<DeviceCommunicator> make_nccl_communicator(Communicator& ranks, Device device,
                                                           std::shared_ptr<const NcclLibrary> library);
std::unique_ptr<DeviceCommunicator> make_staged_communicator(Communicator& ranks, Device device);

}  // namespace lockstep
