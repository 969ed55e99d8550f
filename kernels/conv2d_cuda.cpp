// SPDX-License-Identifier: Apache-2.0
#include "kernels/conv2d_columns.h"

namespace lockstep {

int64_t scratch_bytes(Cuda, Stream& stream, const Conv2d& op) { return columns_scratch(stream, op); }
int64_t scratch_bytes(Cuda, Stream& stream, const Conv2dGradInput& op) { return columns_scratch(stream, op); }
int64_t scratch_bytes(Cuda, Stream& stream, const Conv2dGradWeight& op) { return columns_scratch(stream, op); }

void run(Cuda, Stream& stream, const Conv2d& op, std::byte* scratch) { conv2d_by_columns(stream, op, scratch); }
void run(Cuda, Stream& stream, const Conv2dGradInput& op, std::byte* scratch) {
  conv2d_by_columns(stream, op, scratch);
}
void run(Cuda, Stream& stream, const Conv2dGradWeight& op, std::byte* scratch) {
  conv2d_by_columns(stream, op, scratch);
}

}  // namespace lockstep
