// SPDX-License-Identifier: Apache-2.0
// What decides the bits of results besides a program, its options and its data: the library that multiplies, the
// instructions it uses here, and what the environment makes of both. Ranks must agree on it, and ledgers carry it.
#pragma once

#include <string>

#include "kernels/device/device.h"

namespace lockstep {

// One line for a rank that computes on this device, words joined by '-' and parts by ',':
// "oneDNN-2.6.3-f1a2b3c4-avx512_core" or "Eigen-3.4.0-x86-64-v3-l1:32768,denormals:flushed". Two ranks whose lines are
// equal get equal bits from equal work.
std::string numerics(Device device);

}  // namespace lockstep
