// SPDX-License-Identifier: Apache-2.0
// The functions of NCCL that Lockstep calls, found in the library at run time. Only nccl_*.cpp include this.
#pragma once

#include <nccl.h>

#include <memory>
#include <string>

#include "collectives/device/device_transports.h"

namespace lockstep {

// NCCL's own declarations give the types, so that a call that its header would not take does not compile.
struct NcclLibrary {
  std::string file;
  int version = 0;               // as NCCL writes it: 22809 is 2.28.9
  std::shared_ptr<void> handle;  // keeps the library loaded

  decltype(&ncclGetVersion) get_version = nullptr;
  decltype(&ncclGetUniqueId) get_unique_id = nullptr;
  decltype(&ncclGetErrorString) get_error_string = nullptr;
  decltype(&ncclGetLastError) get_last_error = nullptr;
  decltype(&ncclCommInitRankConfig) comm_init_rank_config = nullptr;
  decltype(&ncclCommGetAsyncError) comm_get_async_error = nullptr;
  decltype(&ncclCommFinalize) comm_finalize = nullptr;
  decltype(&ncclCommDestroy) comm_destroy = nullptr;
  decltype(&ncclCommAbort) comm_abort = nullptr;
  decltype(&ncclAllReduce) all_reduce = nullptr;
  decltype(&ncclReduceScatter) reduce_scatter = nullptr;
  decltype(&ncclAllGather) all_gather = nullptr;
  decltype(&ncclBroadcast) broadcast = nullptr;
  decltype(&ncclSend) send = nullptr;
  decltype(&ncclRecv) recv = nullptr;
  decltype(&ncclGroupStart) group_start = nullptr;
  decltype(&ncclGroupEnd) group_end = nullptr;
};

}  // namespace lockstep
