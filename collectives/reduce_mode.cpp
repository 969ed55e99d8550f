// SPDX-License-Identifier: Apache-2.0
#include "collectives/reduce_mode.h"

#include "kernels/device/check.h"

namespace lockstep {

std::string_view to_string(ReduceMode mode) {
  return mode == ReduceMode::tree ? "tree" : mode == ReduceMode::fast ? "fast" : "mpi";
}

void check_reduce_dtype(ReduceMode mode, DType dtype) {
  check(dtype == DType::f32 || dtype == DType::bf16, ErrorCode::usage,
        [&] { return str("gradients are reduced in f32 or bf16, not in ", to_string(dtype)); });
  check(mode != ReduceMode::mpi || dtype == DType::f32, ErrorCode::usage,
        "--reduce mpi adds in f32, as MPI_Allreduce knows no bf16; with --reduce-dtype bf16 reduce by 'tree' or "
        "'fast'");
}

}  // namespace lockstep
