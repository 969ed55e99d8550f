// SPDX-License-Identifier: Apache-2.0
// A program of ranks with GPUs that fails in a way chosen on its command line or by its environment, for
// failing_device_ranks.cmake: started by mpirun, it must say why once, and every rank must be gone in time.
#include <cstdio>
#include <string_view>

#include "collectives/bootstrap.h"
#include "tests/support/device_ranks.h"

namespace {

using namespace lockstep;

void reduce(DeviceRank& on, size_t elements) {
  DeviceVector<float> values(on, elements, 1);
  on.comm.all_reduce(values.view(), ReduceOp::sum, on.compute).wait(on.compute);
  on.comm.synchronize(on.compute);
}

void run(DeviceRank& on, std::string_view way) {
  const bool is_last = on.rank() == on.size() - 1;
  reduce(on, 1000);
  if (way == "one_stops" && is_last) fail(ErrorCode::data, "a broken batch");
  if (way == "one_differs") return reduce(on, is_last ? 2000 : 1000);
  if (way == "one_stays_away") {
    on.comm.ranks().set_timeout(std::chrono::seconds(1));
    if (is_last) std::this_thread::sleep_for(std::chrono::seconds(60));
  }
  reduce(on, 1000);
}

}  // namespace

int main(int argc, char** argv) {
  return run_connected(
      [&](Communicator& ranks) {
        with_device(ranks, parse_device_transport(argv[1]), [&](DeviceRank& on) { run(on, argc > 2 ? argv[2] : ""); });
        return 0;
      },
      [](const std::exception& error) {
        std::fprintf(stderr, "failing_device_ranks: error: %s\n", error.what());
        std::fflush(stderr);
      });
}
