// SPDX-License-Identifier: Apache-2.0
// A program that fails in a way chosen on its command line, for failing_ranks.cmake: started by mpirun, it must say why
// once, and every rank must be gone in time.
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

#include "collectives/bootstrap.h"
#include "collectives/handshake.h"

namespace {

using namespace lockstep;

int run(Communicator& ranks, const char* way) {
  if (std::strcmp(way, "usage") == 0) fail(ErrorCode::usage, "unknown option --bach; see --help");
  if (std::strcmp(way, "one_in_barrier") == 0) {
    ranks.barrier();
    if (ranks.rank() == ranks.size() - 1) fail(ErrorCode::numbers, "the loss is not a number");
    ranks.barrier();
  }
  if (std::strcmp(way, "one_missing") == 0) {
    ranks.set_timeout(std::chrono::milliseconds(500));
    if (ranks.rank() == ranks.size() - 1) std::this_thread::sleep_for(std::chrono::seconds(60));
    ranks.barrier();
  }
  if (std::strcmp(way, "one_computes") == 0) {
    if (ranks.rank() == 0) fail(ErrorCode::file, "cannot write the weights");
    std::this_thread::sleep_for(std::chrono::seconds(60));
  }
  if (std::strcmp(way, "mismatch") == 0) check_agreement(ranks, {{"options", str("batch=", 32 << ranks.rank())}});
  std::printf("rank %d of %d is done\n", ranks.rank(), ranks.size());
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return run_connected([&](Communicator& ranks) { return run(ranks, argc > 1 ? argv[1] : ""); },
                       [](const std::exception& error) {
                         std::fprintf(stderr, "failing_ranks: error: %s\n", error.what());
                         std::fflush(stderr);
                       });
}
