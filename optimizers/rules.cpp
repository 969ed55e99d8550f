// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "kernels/backend.h"
#include "optimizers/adam.h"
#include "optimizers/sgd.h"
#include "optimizers/update.h"

namespace lockstep {

namespace {

template <class Rule>
struct FusedStep {
  typename Rule::Update rule;
  float decay;
  const StepScalars* scalars;  // in memory of the device: read there

  template <class... State>
  HOST_DEVICE void operator()(float& param, float& grad, State&... state) const {
    if (!scalars->skip) {
      // Before the rule and apart from its gradient: decoupled (Loshchilov & Hutter 2019). Without decay it is exact.
      param -= decay * param;
      rule(param, grad * scalars->grad_scale, state...);
    }
    grad = 0;
  }
};

}  // namespace

template <class Rule>
void run(Backend, Stream& stream, const Update<Rule>& u) {
  [&]<size_t... I>(std::index_sequence<I...>) {
    backend::elementwise(stream, u.param.size(), FusedStep<Rule>{u.rule, u.decay, u.scalars},
                         inout(data<float>(u.param)), inout(data<float>(u.grad)), inout(data<float>(u.slots[I]))...);
  }
  (std::make_index_sequence<Rule::slots.size()>{});
}

template void run(Backend, Stream&, const Update<Sgd>&);
template void run(Backend, Stream&, const Update<SgdMomentum>&);
template void run(Backend, Stream&, const Update<SgdNesterov>&);
template void run(Backend, Stream&, const Update<Adam>&);
template void run(Backend, Stream&, const Update<AdamAmsgrad>&);

}  // namespace lockstep
