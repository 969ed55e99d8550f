// SPDX-License-Identifier: Apache-2.0
// A program that leaves out the order of streams in a way chosen on its command line, for misordered_collectives.cmake:
// built with the thread sanitizer on emulated GPUs, it must be found out. misordered_collectives nccl|staged WAY
#include <cstdio>
#include <string_view>

#include "tests/support/device_ranks.h"

namespace {

using namespace lockstep;

// A gradient is written on one stream, summed, and used on that stream again.
void one_step(DeviceRank& on, std::string_view way) {
  Stream elsewhere = Stream::cuda(on.compute.device().index);
  DeviceVector<float> gradient(on, 500, 1), sum(on, 500), used(on, 500);
  on.compute.synchronize();
  copy(on.compute, sum.view(), gradient.view());
  Work work = on.comm.all_reduce(sum.view(), ReduceOp::sum, way == "follows_another_stream" ? elsewhere : on.compute);
  if (way == "refills_before_waiting") copy(on.compute, sum.view(), gradient.view());
  work.wait(way == "another_stream_waits" ? elsewhere : on.compute);
  copy(on.compute, used.view(), sum.view());
  on.comm.synchronize(on.compute);
  on.comm.synchronize(elsewhere);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const DeviceTransport transport = parse_device_transport(argv[1]);
  run_ranks(
      2, [&](Communicator& ranks) { with_device(ranks, transport, [&](DeviceRank& on) { one_step(on, argv[2]); }); });
  std::puts("done");
}
