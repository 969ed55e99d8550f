// SPDX-License-Identifier: Apache-2.0
#include "kernels/device/gpu_report.h"

#include <algorithm>
#include <cstdio>

#include "kernels/device/check.h"

namespace lockstep {
namespace {

std::string gibibytes(int64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", double(bytes) / double(1 << 30));
  return text;
}

}  // namespace

std::string gpu_lines(const std::vector<GpuReport>& gpus) {
  std::string lines;
  for (size_t i = 0; i < gpus.size(); ++i) {
    const auto& [gpu, free_bytes, reaches] = gpus[i];
    lines += str(lines.empty() ? "" : "\n", i, ": ", gpu.name, ", compute capability ", gpu.major, ".", gpu.minor, ", ",
                 free_bytes < 0 ? "" : gibibytes(free_bytes) + " of ", gibibytes(gpu.memory_bytes), " GiB",
                 free_bytes < 0 ? "" : " free", ", ", gpu.bus_id);
    if (gpus[i].is_instance())
      lines +=
          "; part of a GPU (MIG): one rank can use it, several only by --transport staged, because NCCL connects no "
          "parts of one GPU";
  }
  return lines;
}

std::string gpu_links(const std::vector<GpuReport>& gpus) {
  if (gpus.size() < 2) return "one GPU, no links";
  const auto reaches_all = [](const GpuReport& gpu) { return std::ranges::all_of(gpu.reaches, std::identity()); };
  if (std::ranges::all_of(gpus, reaches_all)) return str("all ", gpus.size(), " GPUs reach each other's memory");
  std::string rows = "who reaches whose memory (x) and who goes through the host (-):";
  for (size_t i = 0; i < gpus.size(); ++i) {
    rows += str("\n", i, ":");
    for (size_t j = 0; j < gpus.size(); ++j) rows += i == j ? " ." : (gpus[i].reaches[j] ? " x" : " -");
  }
  return rows;
}

}  // namespace lockstep
