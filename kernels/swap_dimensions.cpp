// SPDX-License-Identifier: Apache-2.0
#include "kernels/swap_dimensions.h"

#include "kernels/backend.h"

namespace lockstep {
namespace {

struct CopyRow {
  float* out;
  const float* in;
  int64_t a, b, c;

  template <class Team>
  HOST_DEVICE void operator()(Team team, int64_t row) const {
    const float* from = in + row * c;
    float* to = out + (row % b * a + row / b) * c;
    team.each(c, [=](int64_t i) { to[i] = from[i]; });
  }
};

}  // namespace

void run(Backend, Stream& stream, const SwapDimensions& k) {
  check(k.a * k.b * k.c == k.in.size() && k.in.size() == k.out.size(), ErrorCode::internal, [&] {
    return str("swap dimensions: expected ", k.a, " x ", k.b, " x ", k.c, " elements, got ", k.in.size(), " and ",
               k.out.size());
  });
  backend::rowwise(stream, k.a * k.b, k.c, CopyRow{data<float>(k.out), data<float>(k.in), k.a, k.b, k.c});
}

}  // namespace lockstep
