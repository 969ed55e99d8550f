// SPDX-License-Identifier: Apache-2.0
// Compares our language models with a file of another program's: parity_check FILE TOLERANCE. Exit code 1: too far.
#include <cstdio>
#include <exception>

#include "tests/runtime/models/parity_case.h"

int main(int argc, char** argv) {
  try {
    if (argc != 3) {
      std::fprintf(stderr, "usage: parity_check FILE TOLERANCE\n");
      return 2;
    }
    const lockstep::ParityCase parity(argv[1]);
    const double tolerance = std::stod(argv[2]);
    bool near = parity.greedy() == parity.expected_greedy();
    std::printf("greedy tokens %s", near ? "equal" : "DIFFER");
    for (const auto& [name, difference] : parity.differences()) {
      std::printf(", %s %.1e", name.c_str(), difference);
      near = near && difference <= tolerance;
    }
    std::printf("\n");
    return near ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "parity_check: %s\n", error.what());
    return 1;
  }
}
