// SPDX-License-Identifier: Apache-2.0
// How gradients are summed over ranks: the order of additions and the dtype they are rounded to. These are values, so
// that a plan needs nothing that sums.
#pragma once

#include <cstdint>
#include <string_view>

#include "kernels/device/dtype.h"

namespace lockstep {

enum class ReduceMode : uint8_t {
  tree,  // canonical tree over the leaves, with the same bits for any number of ranks
  fast,  // one leaf per rank, however many the batch could be cut into, so the bits depend on the number of ranks
  mpi,   // one leaf per rank, summed by MPI_Allreduce, for comparison
};
std::string_view to_string(ReduceMode mode);

// Sums are taken in f32, or in bf16: then every leaf and every sum of the tree is rounded to the nearest bf16 and
// travels as one. Arenas are f32 either way. Error(usage) for another dtype, and for bf16 in mode mpi.
void check_reduce_dtype(ReduceMode mode, DType dtype);

}  // namespace lockstep
