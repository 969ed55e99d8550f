// SPDX-License-Identifier: Apache-2.0
// main() of test binaries that run under mpirun: every process runs every test, together with the others.
#include <gtest/gtest.h>

#include <cstdio>

#include "collectives/bootstrap.h"
#include "tests/support/ranks.h"

namespace {

// Only rank 0 tells of progress; all tell of failures.
class Failures : public testing::EmptyTestEventListener {
 public:
  explicit Failures(int rank) : rank_(rank) {}
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (result.failed())
      std::fprintf(stderr, "rank %d: %s:%d: %s\n", rank_, result.file_name(), result.line_number(), result.message());
  }

 private:
  int rank_;
};

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  return lockstep::run_connected(
      [](lockstep::Communicator& ranks) {
        lockstep::launched_ranks() = &ranks;
        testing::TestEventListeners& listeners = testing::UnitTest::GetInstance()->listeners();
        if (ranks.rank() != 0) {
          delete listeners.Release(listeners.default_result_printer());
          listeners.Append(new Failures(ranks.rank()));
        }
        return RUN_ALL_TESTS();
      },
      [](const std::exception& error) { std::fprintf(stderr, "%s\n", error.what()); });
}
