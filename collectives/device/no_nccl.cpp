// SPDX-License-Identifier: Apache-2.0
// Stands in for NCCL in a build without it, and says why it is missing.
#include "collectives/device/device_transports.h"

namespace lockstep {

struct NcclLibrary {};

std::shared_ptr<const NcclLibrary> load_nccl() {
  fail(ErrorCode::device,
       "this build has no NCCL (configure with -DLOCKSTEP_NCCL=ON, where its header is); use --transport staged");
}

std::string describe(const NcclLibrary&) { return "no NCCL"; }

NcclAttempt connect_by_nccl(Communicator&, Device, std::shared_ptr<const NcclLibrary>) {
  static_cast<void>(load_nccl());
  return {};
}

}  // namespace lockstep
