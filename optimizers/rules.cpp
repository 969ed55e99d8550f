// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "kernels/backend.h"
#include "optimizers/fused_step.h"
#include "optimizers/rule_list.h"
#include "optimizers/update.h"

namespace lockstep {

namespace {

template <class Rule>
struct UpdateElement {
  typename Rule::template Update<float> rule;
  float decay, l2;
  const StepScalars* scalars;  // in memory of the device: read there

  template <class... State>
  HOST_DEVICE void operator()(float& param, float& grad, State&... state) const {
    if (!scalars->skip) fused_step(rule, decay, l2, grad * scalars->grad_scale, param, state...);
    grad = 0;
  }
};

}  // namespace

template <class Rule>
void run(Backend, Stream& stream, const Update<Rule>& u) {
  [&]<size_t... I>(std::index_sequence<I...>) {
    backend::elementwise(stream, u.param.size(), UpdateElement<Rule>{u.rule, u.decay, u.l2, u.scalars},
                         inout(data<float>(u.param)), inout(data<float>(u.grad)), inout(data<float>(u.slots[I]))...);
  }
  (std::make_index_sequence<kSlots<Rule>>{});
}

template struct RunOfRules<Update, Rules>;

}  // namespace lockstep
