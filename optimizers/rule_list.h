// SPDX-License-Identifier: Apache-2.0
// The list of all rules: kernels are compiled for each of them.
#pragma once

#include <tuple>

#include "kernels/backend.h"
#include "kernels/device/device.h"
#include "optimizers/rules/adadelta.h"
#include "optimizers/rules/adafactor.h"
#include "optimizers/rules/adagrad.h"
#include "optimizers/rules/adam.h"
#include "optimizers/rules/adamax.h"
#include "optimizers/rules/ftrl.h"
#include "optimizers/rules/lamb.h"
#include "optimizers/rules/lion.h"
#include "optimizers/rules/muon.h"
#include "optimizers/rules/nadam.h"
#include "optimizers/rules/overwrite.h"
#include "optimizers/rules/radam.h"
#include "optimizers/rules/rmsprop.h"
#include "optimizers/rules/schedule_free_adamw.h"
#include "optimizers/rules/sgd.h"
#include "optimizers/update_kernels.h"

namespace lockstep {

template <class... Rule>
struct RuleList {};

using Rules = RuleList<Adadelta, Adagrad, Adam, AdamAmsgrad, Adamax, Ftrl, FtrlAnyPower, Lion, Nadam, Overwrite, RAdam,
                       Rmsprop, RmspropCentered, RmspropCenteredMomentum, RmspropMomentum, ScheduleFreeAdamW, Sgd,
                       SgdMomentum, SgdNesterov>;

// The rules that work on whole tensors, whose updates are kernels of their own.
using TensorRules = RuleList<Adafactor, Lamb, Muon>;

// `template struct RunOfRules<Kernel, Rules>;` compiles run(Backend, Stream&, const Kernel<Rule>&) for every rule, by
// taking its address.
template <template <class> class Kernel, class List>
struct RunOfRules;
template <template <class> class Kernel, class... Rule>
struct RunOfRules<Kernel, RuleList<Rule...>> {
  static constexpr std::tuple kernels{static_cast<void (*)(Backend, Stream&, const Kernel<Rule>&)>(&run<Rule>)...};
};

}  // namespace lockstep
