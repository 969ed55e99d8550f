// SPDX-License-Identifier: Apache-2.0
#include "runtime/run_device.h"

#include <sched.h>

#include <algorithm>
#include <thread>

namespace lockstep {

DeviceKind parse_device(std::string_view device) {
  check(device == "cpu" || device == "cuda", ErrorCode::usage,
        [&] { return str("--device: expected cpu or cuda, got '", device, "'"); });
  if (device == "cpu") return DeviceKind::cpu;
  const CudaDevices found = find_cuda_devices();
  check(found.count() > 0, ErrorCode::device,
        [&] { return str("--device cuda: no GPU can be used: ", found.detail, "; use --device cpu"); });
  return DeviceKind::cuda;
}

int64_t ranks_per_node(const Communicator& communicator) {
  if (communicator.place().nodes == 1) return 0;
  return std::ranges::count(communicator.node_of(), 0);
}

int default_threads(const Place& place) {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  const int all = std::max(1, int(std::thread::hardware_concurrency()));
  const int mine = sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : all;
  // A launcher that binds ranks has already divided the cores.
  return std::max(1, std::min(mine, all / place.local_size));
}

RunDevice choose_run_device(Communicator& ranks, std::string_view device, DeviceTransport transport, int64_t threads) {
  RunDevice chosen{.transport = transport, .threads = threads > 0 ? int(threads) : default_threads(ranks.place())};
  if (parse_device(device) == DeviceKind::cuda) chosen.device = choose_device(ranks, transport);
  return chosen;
}

}  // namespace lockstep
