// SPDX-License-Identifier: Apache-2.0
// Random numbers as a pure function of (key, counter): Philox-4x32 with 10 rounds (Salmon et al., "Parallel random
// numbers: as easy as 1, 2, 3", 2011). There is no state, so a number depends on its purpose, never on who drew before.
#pragma once

#include <cstdint>

#include "kernels/host_device.h"

namespace lockstep {

struct Philox4 {
  uint32_t v[4];
};

// One round multiplies two of the four words by constants and crosses the halves of the products over with the key.
HOST_DEVICE inline Philox4 philox_round(const Philox4& x, uint32_t key_low, uint32_t key_high) {
  const uint64_t product_0 = uint64_t(0xD2511F53u) * x.v[0];
  const uint64_t product_2 = uint64_t(0xCD9E8D57u) * x.v[2];
  return {{uint32_t(product_2 >> 32) ^ x.v[1] ^ key_low, uint32_t(product_2),
           uint32_t(product_0 >> 32) ^ x.v[3] ^ key_high, uint32_t(product_0)}};
}

// Four independent uniform 32-bit numbers for each of 2^128 counters under each of 2^64 keys.
HOST_DEVICE inline Philox4 philox4x32(uint64_t key, uint64_t counter_low, uint64_t counter_high) {
  Philox4 x{{uint32_t(counter_low), uint32_t(counter_low >> 32), uint32_t(counter_high), uint32_t(counter_high >> 32)}};
  uint32_t key_low = uint32_t(key);
  uint32_t key_high = uint32_t(key >> 32);
  for (int round = 0; round < 10; ++round) {
    x = philox_round(x, key_low, key_high);
    // Fractions of the golden ratio and of the square root of 3, so that no two rounds share a key.
    key_low += 0x9E3779B9u;
    key_high += 0xBB67AE85u;
  }
  return x;
}

}  // namespace lockstep
