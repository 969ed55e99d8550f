// SPDX-License-Identifier: Apache-2.0
#include "kernels/pointwise.h"

namespace lockstep {

void check_same_size(std::string_view kernel, std::initializer_list<ConstView> views) {
  const ConstView& first = *views.begin();
  for (const ConstView& view : views)
    check(view.size() == first.size() && view.dtype == first.dtype, ErrorCode::internal, [&] {
      return str(kernel, ": expected ", to_string(first.dtype), " ", to_string(first.shape), ", got ",
                 to_string(view.dtype), " ", to_string(view.shape));
    });
}

}  // namespace lockstep
