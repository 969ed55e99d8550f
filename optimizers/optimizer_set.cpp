// SPDX-License-Identifier: Apache-2.0
#include "optimizers/optimizer_set.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/device/check.h"
#include "kernels/device/number_text.h"

namespace lockstep {
namespace {

void check_settings(const std::optional<MovingAverage>& average, const std::optional<LossScaling>& scaling) {
  if (average) {
    check(average->momentum >= 0 && average->momentum <= 1, ErrorCode::usage,
          [&] { return str("ema_momentum: expected a number from 0 to 1, got ", exact(average->momentum)); });
    check(average->overwrite_every >= 0, ErrorCode::usage, [&] {
      return str("ema_overwrite_every: expected a number of steps from 1, or 0 for never, got ",
                 average->overwrite_every);
    });
  }
  if (scaling) {
    int exponent = 0;
    check(std::frexp(scaling->initial, &exponent) == 0.5 && exponent > -126 && exponent <= 127, ErrorCode::usage, [&] {
      return str("loss_scale: expected a power of two from 2^-126 to 2^126, so that scaling is exact, got ",
                 exact(scaling->initial));
    });
    check(scaling->growth_steps >= 1, ErrorCode::usage,
          [&] { return str("loss_scale_growth_steps: expected at least 1, got ", scaling->growth_steps); });
  }
}

}  // namespace

OptimizerSet::OptimizerSet(const Optimizer& only)
    : OptimizerSet({{.optimizer = std::shared_ptr<const Optimizer>(std::shared_ptr<void>(), &only)}}, {}) {}

OptimizerSet::OptimizerSet(std::vector<OptimizerGroup> groups, std::map<std::string, int32_t, std::less<>> group_of,
                           std::optional<MovingAverage> average, std::optional<LossScaling> scaling) {
  check_settings(average, scaling);
  state_ = complete({.groups = std::move(groups),
                     .group_of = std::move(group_of),
                     .average = average,
                     .scaling = scaling,
                     .slots = {},
                     .scalar_names = {},
                     .scalars = {},
                     .first_scalar = {}});
}

std::shared_ptr<const OptimizerSet::State> OptimizerSet::complete(State state) {
  check(!state.groups.empty(), ErrorCode::internal, "a set of optimizers needs one at least");
  std::vector<double> initial;
  for (size_t g = 0; g < state.groups.size(); ++g) {
    const Optimizer& optimizer = *state.groups[g].optimizer;
    if (optimizer.slots().size() > state.slots.size())
      state.slots.assign(optimizer.slots().begin(), optimizer.slots().end());
    state.first_scalar.push_back(int32_t(initial.size()));
    for (const ScalarState& scalar : optimizer.scalars()) {
      state.scalar_names.push_back(g == 0 ? std::string(scalar.name) : str("group_", g, "/", scalar.name));
      initial.push_back(scalar.initial);
    }
  }
  if (state.average) state.slots.push_back({.name = "average", .starts_as_parameter = true});
  if (state.scaling) {
    state.scalar_names.insert(state.scalar_names.end(), {"loss_scale", "finite_steps"});
    initial.insert(initial.end(), {state.scaling->initial, 0.0});
  }
  auto shared = std::make_shared<State>(std::move(state));
  for (size_t i = 0; i < initial.size(); ++i) shared->scalars.push_back({shared->scalar_names[i], initial[i]});
  return shared;
}

int32_t OptimizerSet::group_of(std::string_view path) const {
  const auto found = state_->group_of.find(path);
  return found == state_->group_of.end() ? 0 : found->second;
}

double OptimizerSet::rate_of(int32_t number, double rate) const {
  const OptimizerGroup& of = group(number);
  return of.own_rate ? *of.own_rate : rate * of.rate_factor;
}

Slot OptimizerSet::slot(int32_t number, int32_t index) const {
  const auto own = group(number).optimizer->slots();
  if (size_t(index) < own.size()) return own[size_t(index)];
  const Slot& any = state_->slots[size_t(index)];
  return state_->average && index == average_slot() ? any : Slot{.name = any.name};
}

bool OptimizerSet::any_updates_by_tensor() const {
  return std::ranges::any_of(state_->groups, [](const OptimizerGroup& g) { return g.optimizer->updates_by_tensor(); });
}

const Bounds* OptimizerSet::bounds_of(std::string_view path) const {
  const std::optional<Bounds>& bounds = group(group_of(path)).bounds;
  return bounds ? &*bounds : nullptr;
}

std::string OptimizerSet::description() const {
  std::string text;
  for (int32_t g = 0; g < groups(); ++g) {
    const OptimizerGroup& each = group(g);
    text += g == 0 ? str("optimizer=", each.optimizer->name())
                   : str(" group ", each.text, " optimizer=", each.optimizer->name());
    for (const Hyperparameter& h : each.optimizer->hyperparameters()) text += str(" ", h.name, "=", exact(h.value));
    if (each.bounds) text += str(" minimum=", exact(each.bounds->minimum), " maximum=", exact(each.bounds->maximum));
    if (each.rate_factor != 1) text += " rate_factor=" + exact(each.rate_factor);
    if (each.own_rate) text += " own_rate=" + exact(*each.own_rate);
  }
  if (average())
    text += str(" ema_momentum=", exact(average()->momentum), " ema_overwrite_every=", average()->overwrite_every);
  if (scaling())
    text += str(" loss_scale=", exact(scaling()->initial), " loss_scale_growth_steps=", scaling()->growth_steps);
  return text;
}

}  // namespace lockstep
