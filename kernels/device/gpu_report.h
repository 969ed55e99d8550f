// SPDX-License-Identifier: Apache-2.0
// What people ask about the GPUs that a process sees: `lockstep doctor` prints it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "kernels/device/device.h"

namespace lockstep {

struct GpuReport {
  CudaDevice gpu;
  int64_t free_bytes = -1;  // of the whole GPU, whoever holds the rest; below 0: the GPU does not tell
  // For each GPU whether this one reaches its memory without the host.
  std::vector<bool> reaches;
  bool is_instance() const { return is_gpu_instance(gpu.name); }

  // Whether a GPU of this name is a part of one (MIG). Parts have one bus id, and NCCL connects no two of them.
  static bool is_gpu_instance(const std::string& name) { return name.find(" MIG ") != std::string::npos; }
};
std::vector<GpuReport> report_gpus();

// "0: NVIDIA H200, compute capability 9.0, 139.1 of 139.8 GiB free, 0000:19:00.0", a line for each.
std::string gpu_lines(const std::vector<GpuReport>& gpus);
// Which GPUs reach each other's memory: "all of 8 reach each other", "0-3 | 4-7 ...", or a row for each; with one GPU
// that there is no other.
std::string gpu_links(const std::vector<GpuReport>& gpus);

}  // namespace lockstep
