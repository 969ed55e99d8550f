// SPDX-License-Identifier: Apache-2.0
// Every rule there is: kernels are compiled for each of them.
#pragma once

#include <tuple>

#include "kernels/backend.h"
#include "kernels/device/device.h"
#include "optimizers/adadelta.h"
#include "optimizers/adafactor.h"
#include "optimizers/adagrad.h"
#include "optimizers/adam.h"
#include "optimizers/adamax.h"
#include "optimizers/ftrl.h"
#include "optimizers/lamb.h"
#include "optimizers/lion.h"
#include "optimizers/muon.h"
#include "optimizers/nadam.h"
#include "optimizers/overwrite.h"
#include "optimizers/prepared_update.h"
#include "optimizers/radam.h"
#include "optimizers/rmsprop.h"
#include "optimizers/schedule_free_adamw.h"
#include "optimizers/sgd.h"

namespace lockstep {

template <class... Rule>
struct RuleList {};

using Rules = RuleList<Adadelta, Adagrad, Adam, AdamAmsgrad, Adamax, Ftrl, FtrlAnyPower, Lion, Nadam, Overwrite, RAdam,
                       Rmsprop, RmspropCentered, RmspropCenteredMomentum, RmspropMomentum, ScheduleFreeAdamW, Sgd,
                       SgdMomentum, SgdNesterov>;

// Those that work on whole tensors; their updates are kernels of their own.
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
