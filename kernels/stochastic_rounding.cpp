// SPDX-License-Identifier: Apache-2.0
#include "kernels/stochastic_rounding.h"

#include "kernels/backend.h"

namespace lockstep {
namespace {

struct RoundElement {
  HOST_DEVICE void operator()(float& y, float x, uint32_t noise) const { y = round_stochastically(x, noise); }
};

}  // namespace

void run(Backend, Stream& stream, const RoundStochastically& k) {
  check(k.out.size() == k.in.size(), ErrorCode::internal,
        [&] { return str("round stochastically: expected ", k.out.size(), " elements, got ", k.in.size()); });
  const GranuleNoise noise{.key = k.key, .first = k.first_number, .variable_of = nullptr, .numbers = nullptr};
  backend::elementwise(stream, k.out.size(), RoundElement{}, out(data<bfloat16>(k.out)), in(data<float>(k.in)), noise);
}

}  // namespace lockstep
