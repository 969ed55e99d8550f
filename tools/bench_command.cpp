// SPDX-License-Identifier: Apache-2.0
#include <iostream>

#include "tools/benchmark.h"
#include "tools/command_line.h"

namespace lockstep {
void add_bench_command(CLI::App&, Command&) {}
}  // namespace lockstep
