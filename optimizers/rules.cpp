// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "kernels/backend.h"
#include "optimizers/adadelta.h"
#include "optimizers/adagrad.h"
#include "optimizers/adam.h"
#include "optimizers/adamax.h"
#include "optimizers/ftrl.h"
#include "optimizers/lion.h"
#include "optimizers/nadam.h"
#include "optimizers/rmsprop.h"
#include "optimizers/schedule_free_adamw.h"
#include "optimizers/sgd.h"
#include "optimizers/update.h"

namespace lockstep {

namespace {

template <class Rule>
struct FusedStep {
  typename Rule::template Update<float> rule;
  float decay, l2;
  const StepScalars* scalars;  // in memory of the device: read there

  template <class... State>
  HOST_DEVICE void operator()(float& param, float& grad, State&... state) const {
    if (!scalars->skip) {
      // Before the rule and apart from its gradient: decoupled (Loshchilov & Hutter 2019). Without decay it is exact.
      param -= decay * param;
      const float unscaled = grad * scalars->grad_scale;
      rule(param, l2 == 0 ? unscaled : unscaled + l2 * param, state...);
    }
    grad = 0;
  }
};

}  // namespace

template <class Rule>
void run(Backend, Stream& stream, const Update<Rule>& u) {
  [&]<size_t... I>(std::index_sequence<I...>) {
    backend::elementwise(stream, u.param.size(), FusedStep<Rule>{u.rule, u.decay, u.l2, u.scalars},
                         inout(data<float>(u.param)), inout(data<float>(u.grad)), inout(data<float>(u.slots[I]))...);
  }
  (std::make_index_sequence<kSlots<Rule>>{});
}

template void run(Backend, Stream&, const Update<Sgd>&);
template void run(Backend, Stream&, const Update<SgdMomentum>&);
template void run(Backend, Stream&, const Update<SgdNesterov>&);
template void run(Backend, Stream&, const Update<Adam>&);
template void run(Backend, Stream&, const Update<AdamAmsgrad>&);
template void run(Backend, Stream&, const Update<Rmsprop>&);
template void run(Backend, Stream&, const Update<RmspropMomentum>&);
template void run(Backend, Stream&, const Update<RmspropCentered>&);
template void run(Backend, Stream&, const Update<RmspropCenteredMomentum>&);
template void run(Backend, Stream&, const Update<Adagrad>&);
template void run(Backend, Stream&, const Update<Adadelta>&);
template void run(Backend, Stream&, const Update<Adamax>&);
template void run(Backend, Stream&, const Update<Nadam>&);
template void run(Backend, Stream&, const Update<Ftrl>&);
template void run(Backend, Stream&, const Update<FtrlAnyPower>&);
template void run(Backend, Stream&, const Update<Lion>&);
template void run(Backend, Stream&, const Update<ScheduleFreeAdamW>&);

}  // namespace lockstep
