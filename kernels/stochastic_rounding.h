// SPDX-License-Identifier: Apache-2.0
// Stochastic rounding to bf16: up or down with the probability that makes the mean exact, so that updates far below the
// last place of a weight are not lost. What is drawn is a function of (seed, step, element), never of ranks, threads or
// the order of execution.
#pragma once

#include <cstdint>

#include "kernels/device/view.h"
#include "kernels/host_device.h"
#include "kernels/launch.h"
#include "kernels/operand.h"
#include "kernels/philox.h"

namespace lockstep {

// One key for all that is rounded in a step. The second word of the counter keeps it apart from dropout_key().
HOST_DEVICE inline uint64_t rounding_key(uint64_t seed, int64_t step) {
  const Philox4 mixed = philox4x32(seed, uint64_t(step), 1);
  return (uint64_t(mixed.v[0]) << 32) | mixed.v[1];
}

// Returns `x` as a float that bf16 holds: the neighbour farther from zero if the 16 bits that fall off and `noise`,
// which is below 2^16, add up to a carry, else the nearer to zero. What bf16 holds stays as it is.
HOST_DEVICE inline float round_stochastically(float x, uint32_t noise) {
  const uint32_t u = __builtin_bit_cast(uint32_t, x);
  const bool is_nan = (u & 0x7fffffffu) > 0x7f800000u;
  return __builtin_bit_cast(float, is_nan ? u : (u + noise) & 0xffff0000u);
}

// Noise for the elements of one granule: an integer hash of lane and key (the multipliers are those of C. Wellons'
// lowbias32, 2018, a mixer of two rounds).
struct LaneNoise {
  static constexpr uint32_t kStride = 0x9E3779B9u;
  uint32_t of_element_0;  // as if the granule reached back to element 0, so that no element needs a remainder
  HOST_DEVICE LaneNoise(uint32_t key, int64_t granule) : of_element_0(key - uint32_t(granule * kGranule) * kStride) {}
  HOST_DEVICE uint32_t load(int64_t i) const {
    uint32_t x = of_element_0 + uint32_t(i) * kStride;
    x = (x ^ (x >> 16)) * 0x7feb352du;
    x = (x ^ (x >> 15)) * 0x846ca68bu;
    return x >> 16;
  }
  HOST_DEVICE void store(int64_t, uint32_t) const {}
};

// Noise for all elements of an array that begins with a granule. Granules are counted over all variables, in the order
// of declaration, because places in memory depend on the number of ranks.
struct GranuleNoise {
  const uint64_t* key;          // rounding_key(), on the device
  int64_t first;                // granule g of the array is number first + g,
  const uint32_t* variable_of;  // plus numbers[variable_of[g]], unless null
  const int64_t* numbers;

  HOST_DEVICE LaneNoise in_granule(int64_t granule) const {
    const int64_t number = first + granule + (variable_of ? numbers[variable_of[granule]] : 0);
    return {philox4x32(*key, uint64_t(number), 0).v[0], granule};
  }
  HOST_DEVICE uint32_t load(int64_t i) const { return in_granule(i / kGranule).load(i); }
  HOST_DEVICE void store(int64_t, uint32_t) const {}
};

// out = in, rounded stochastically.
struct RoundStochastically {
  View out;              // bf16
  ConstView in;          // f32, as many
  const uint64_t* key;   // rounding_key(), on the device
  int64_t first_number;  // number of the first granule
};
void run(Cpu, Stream&, const RoundStochastically&);
void run(Cuda, Stream&, const RoundStochastically&);

}  // namespace lockstep
