// SPDX-License-Identifier: Apache-2.0
#include "optimizers/update_kernels.h"

#include <span>
#include <type_traits>
#include <utility>

#include "kernels/backend.h"
#include "kernels/stochastic_rounding.h"
#include "optimizers/gradient_transform.h"
#include "optimizers/rule_list.h"

namespace lockstep {
namespace {

// A parameter is kept as f32 alone, with a narrower copy, or in bf16 alone, rounded stochastically.
struct Wide {};
struct WithCopy {};
struct Stochastic {};

// The step of one element, with all numbers of the step. Operands are the parameter, the gradient, the factor of its
// variable if `kFactor`, what `Kept` wants, and the slots, in this order.
template <class Rule, bool kFactor, class Kept>
struct UpdateElement {
  typename Rule::template Update<float> rule;
  GradientTransform transform;
  bool skip;

  template <class... Rest>
  HOST_DEVICE void operator()(float& param, float& grad, Rest&... rest) const {
    if constexpr (kFactor) {
      with_factor(param, grad, rest...);
    } else {
      update(param, grad, 1.0f, rest...);
    }
  }

 private:
  template <class... State>
  HOST_DEVICE void update(float& param, float& grad, float factor, State&... state) const {
    if (!skip) {
      if constexpr (TakesRawGradients<Rule>) {
        rule(param, grad, state...);
      } else {
        const float ready = transform(param, grad, factor);
        rule(param, ready, state...);
      }
    }
    grad = 0;
  }

  template <class... Rest>
  HOST_DEVICE void with_factor(float& param, float& grad, float factor, Rest&... rest) const {
    if constexpr (std::is_same_v<Kept, Wide>) {
      update(param, grad, factor, rest...);
    } else {
      keep(param, grad, factor, rest...);
    }
  }
  template <class... State>
  HOST_DEVICE void keep(float& param, float& grad, float factor, float& copy, State&... state) const {
    update(param, grad, factor, state...);
    copy = param;
  }
  template <class... State>
  HOST_DEVICE void keep(float& param, float& grad, float factor, uint32_t noise, State&... state) const {
    update(param, grad, factor, state...);
    param = round_stochastically(param, noise);
  }
};

// Reads the numbers of the step from where prepare() left them.
template <class Rule, bool kFactor, class Kept>
struct PreparedElement {
  const RuleConstants<Rule>* constants;
  const StepScalars* decision;

  HOST_DEVICE UpdateElement<Rule, kFactor, Kept> load() const {
    return {constants->rule, GradientTransform(*decision, constants->decay, constants->l2), decision->skip};
  }
};

// Selects the granules of the variables of one group, or without groups all. One kernel does both, because it is
// compiled for every rule.
struct OfGroup {
  const uint32_t* variable_of;
  const uint32_t* groups;
  uint32_t group;
  HOST_DEVICE bool operator()(int64_t granule) const {
    return groups == nullptr || groups[variable_of[granule]] == group;
  }
};

template <bool kFactor, class Kept, class Rule, class Param, class... Between>
void update_elements(Stream& stream, const PreparedUpdate<Rule>& u, Param* param, const Between&... between) {
  const PreparedElement<Rule, kFactor, Kept> element{u.constants, u.decision};
  [&]<size_t... I>(std::index_sequence<I...>) {
    if constexpr (kFactor) {
      const OfGroup members{u.granules.variable_of, u.granules.groups, u.granules.group};
      backend::elementwise_where(stream, u.param.size(), members, element, inout(param), inout(data<float>(u.grad)),
                                 between..., inout(data<float>(u.slots[I]))...);
    } else {
      backend::elementwise(stream, u.param.size(), element, inout(param), inout(data<float>(u.grad)), between...,
                           inout(data<float>(u.slots[I]))...);
    }
  }
  (std::make_index_sequence<kSlots<Rule>>{});
}

// Narrow parameters and copies have only the kernel that looks factors up: they are bound by less memory.
template <class Rule>
void update_narrow(Stream& stream, const PreparedUpdate<Rule>& u, const PerGranule& factors) {
  const GranuleMap& granules = u.granules;
  check(granules.factors != nullptr, ErrorCode::internal, "update: what is narrow wants factors of variables");
  if (u.param.dtype == DType::bf16) {
    check(granules.numbers != nullptr, ErrorCode::internal, "update: stochastic rounding wants numbers of granules");
    const GranuleNoise noise{&u.decision->rounding_key, granules.first, granules.variable_of, granules.numbers};
    return update_elements<true, Stochastic>(stream, u, data<bfloat16>(u.param), factors, noise);
  }
  check(u.working_copy.size() == u.param.size(), ErrorCode::internal, [&] {
    return str("update: expected a working copy of ", u.param.size(), " elements, got ", u.working_copy.size());
  });
  const auto with_copy = [&]<class T>(T* copy) {
    update_elements<true, WithCopy>(stream, u, data<float>(u.param), factors, out(copy));
  };
  check(is_narrow(u.working_copy.dtype), ErrorCode::internal,
        [&] { return str("update: expected a working copy of bf16 or f16, got ", to_string(u.working_copy.dtype)); });
  if (u.working_copy.dtype == DType::f16) return with_copy(data<float16>(u.working_copy));
  with_copy(data<bfloat16>(u.working_copy));
}

template <class Rule>
struct PrepareRow {
  Prepare<Rule> k;

  template <class Team>
  HOST_DEVICE void operator()(const Team& team, int64_t) const {
    if (k.decides) decide(team, k.verdict);
    team.once([this] {
      // A step that is skipped sets its rate too.
      if (k.rates.values && !k.rates.counted)
        *k.state.learning_rate = k.rates.values[*k.state.iteration - k.rates.first];
      if (!k.state.decision->skip) advance();
    });
  }

  HOST_DEVICE void advance() const {
    int64_t& iteration = *k.state.iteration;
    if (!k.rates.counted) ++iteration;
    k.state.decision->rounding_key = rounding_key(k.state.seed, iteration);
    const double rate = k.rates.own >= 0 ? k.rates.own : *k.state.learning_rate * k.rates.factor;
    auto& constants = *static_cast<RuleConstants<Rule>*>(k.state.constants);
    if constexpr (HasScalars<Rule>) {
      const std::span<double> scalars(k.state.scalars, Rule::scalars.size());
      k.rule.advance(iteration, rate, scalars);
      constants.rule = k.rule.at(iteration, rate, scalars);
    } else {
      constants.rule = k.rule.at(iteration, rate);
    }
    constants.decay = float(k.coupled_weight_decay ? 0 : rate * k.weight_decay);
    constants.l2 = float(k.coupled_weight_decay ? k.weight_decay : 0);
  }
};

}  // namespace

template <class Rule>
void run(Backend, Stream& stream, const Prepare<Rule>& k) {
  // One row is made so wide that a whole block works on it.
  constexpr int64_t kWide = 1 << 20;
  backend::rowwise(stream, 1, kWide, PrepareRow<Rule>{k});
}

template <class Rule>
void run(Backend, Stream& stream, const PreparedUpdate<Rule>& u) {
  const PerGranule factors{u.granules.variable_of, u.granules.factors};
  const bool with_factors = u.granules.factors != nullptr;
  check(with_factors || !u.granules.groups, ErrorCode::internal,
        "update: groups of variables want factors of variables");
  if (u.param.dtype != DType::f32 || u.working_copy.data != nullptr) return update_narrow(stream, u, factors);
  if (!with_factors) return update_elements<false, Wide>(stream, u, data<float>(u.param));
  update_elements<true, Wide>(stream, u, data<float>(u.param), factors);
}

template struct RunOfRules<Prepare, Rules>;
template struct RunOfRules<Prepare, TensorRules>;
template struct RunOfRules<PreparedUpdate, Rules>;

}  // namespace lockstep
