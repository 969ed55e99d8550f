// SPDX-License-Identifier: Apache-2.0
#include "kernels/dropout.h"
#include "kernels/philox.h"

namespace lockstep {

uint64_t dropout_key(uint64_t seed, int64_t step) {
  const Philox4 mixed = philox4x32(seed, uint64_t(step), 0);
  return (uint64_t(mixed.v[0]) << 32) | mixed.v[1];
}

}  // namespace lockstep
