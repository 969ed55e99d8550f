// SPDX-License-Identifier: Apache-2.0
// What a leaf of the batch came to, into the cells that ranks exchange.
#pragma once

#include <cstdint>

#include "kernels/device/view.h"
#include "kernels/launch.h"

namespace lockstep {

// cells[2 leaf] = loss[0];  cells[2 leaf + 1] = correct[0]
struct StoreLeafResults {
  View cells;               // [>= 2 leaf + 2] f64
  ConstView loss, correct;  // [] f32: sums over the leaf's samples
  int64_t leaf;
};
void run(Cpu, Stream&, const StoreLeafResults&);
void run(Cuda, Stream&, const StoreLeafResults&);

}  // namespace lockstep
