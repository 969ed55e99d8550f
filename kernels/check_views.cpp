// SPDX-License-Identifier: Apache-2.0
#include "kernels/pointwise.h"

namespace lockstep {

void fail_different_views(std::string_view kernel, const ConstView& expected, const ConstView& got) {
  fail(ErrorCode::internal, str(kernel, ": expected ", to_string(expected.dtype), " ", to_string(expected.shape),
                                ", got ", to_string(got.dtype), " ", to_string(got.shape)));
}

}  // namespace lockstep
