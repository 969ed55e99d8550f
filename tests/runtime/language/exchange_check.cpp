// SPDX-License-Identifier: Apache-2.0
// Compares a language model of files with what another program says of it: exchange_check MODEL EXPECTED TOLERANCE.
// Exit code 1: too far.
#include <cstdio>
#include <exception>

#include "tests/runtime/language/exchange_case.h"

int main(int argc, char** argv) {
  try {
    if (argc != 4) {
      std::fprintf(stderr, "usage: exchange_check MODEL EXPECTED TOLERANCE\n");
      return 2;
    }
    lockstep::ExchangeCase exchange(argv[1], argv[2]);
    const double tolerance = std::stod(argv[3]);
    bool near = exchange.greedy() == exchange.expected_greedy();
    std::printf("%zu greedy tokens %s", exchange.expected_greedy().size(), near ? "equal" : "DIFFER");
    for (const auto& [name, difference] : exchange.differences()) {
      std::printf(", %s %.1e", name.c_str(), difference);
      near = near && difference <= tolerance;
    }
    std::printf("\n");
    return near ? 0 : 1;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "exchange_check: %s\n", error.what());
    return 1;
  }
}
