// SPDX-License-Identifier: Apache-2.0
// Row by row, a sum and what comes of it: a residual and its norm in one pass over memory.
#pragma once

#include <cstdint>

#include "kernels/host_device.h"

namespace lockstep {

// For the walk over rows: sum = a + b, rounded to T, and then what `next` does, which reads the rows of the sum.
template <class T, class Next>
struct AddedRow {
  T* sum;
  const T *a, *b;
  int64_t columns;
  Next next;

  template <class Team>
  HOST_DEVICE void operator()(Team team, int64_t row) const {
    T* s = sum + row * columns;
    const T *x = a + row * columns, *y = b + row * columns;
    team.each(columns, [=](int64_t c) { s[c] = T(float(x[c]) + float(y[c])); });
    next(team, row);
  }
};

}  // namespace lockstep
