// SPDX-License-Identifier: Apache-2.0
#include "kernels/device/cuda_check.h"
#include "kernels/device/gpu_report.h"

namespace lockstep {

std::vector<GpuReport> report_gpus() {
  std::vector<GpuReport> gpus;
  const CudaDevices found = find_cuda_devices();
  int before = 0;
  static_cast<void>(cudaGetDevice(&before));
  for (int index = 0; index < found.count(); ++index) {
    GpuReport& report = gpus.emplace_back();
    report.gpu = found.devices[size_t(index)];
    size_t free_bytes = 0, all_bytes = 0;
    if (cudaSetDevice(index) == cudaSuccess && cudaMemGetInfo(&free_bytes, &all_bytes) == cudaSuccess)
      report.free_bytes = int64_t(free_bytes);
    for (int other = 0; other < found.count(); ++other) {
      int reaches = index == other;
      if (!reaches && cudaDeviceCanAccessPeer(&reaches, index, other) != cudaSuccess) reaches = 0;
      report.reaches.push_back(reaches != 0);
    }
  }
  static_cast<void>(cudaSetDevice(before));
  static_cast<void>(cudaGetLastError());
  return gpus;
}

}  // namespace lockstep
