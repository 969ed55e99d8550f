// SPDX-License-Identifier: Apache-2.0
#include "runtime/run_device.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>

#include "collectives/usable_cores.h"

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

int default_threads(Communicator& ranks) {
  const int share = share_of_cores(ranks);  // collective, so before anything that ranks may see differently
  const char* asked = std::getenv("OMP_NUM_THREADS");
  int threads = 0;
  if (asked) std::from_chars(asked, asked + std::strlen(asked), threads);  // of "4,2" the outermost counts
  return threads > 0 ? threads : share;
}

RunDevice choose_run_device(Communicator& ranks, std::string_view device, DeviceTransport transport, int64_t threads) {
  const int by_default = default_threads(ranks);
  RunDevice chosen{.transport = transport, .threads = threads > 0 ? int(threads) : by_default};
  if (parse_device(device) == DeviceKind::cuda) chosen.device = choose_device(ranks, transport);
  return chosen;
}

}  // namespace lockstep
