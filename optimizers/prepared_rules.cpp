// SPDX-License-Identifier: Apache-2.0
#include <utility>

#include "kernels/backend.h"
#include "optimizers/fused_step.h"
#include "optimizers/prepared_update.h"
#include "optimizers/rule_list.h"

namespace lockstep {
namespace {

// Constants and decision where a kernel finds them: on a GPU in its memory; on the CPU by value, so that loops keep
// them in registers and vectorise.
template <class Half, class Rule>
class Prepared;
template <class Rule>
class Prepared<Cuda, Rule> {
 public:
  explicit Prepared(const PreparedUpdate<Rule>& u) : constants_(u.constants), decision_(u.decision) {}
  HOST_DEVICE const RuleConstants<Rule>& constants() const { return *constants_; }
  HOST_DEVICE const StepScalars& decision() const { return *decision_; }

 private:
  const RuleConstants<Rule>* constants_;
  const StepScalars* decision_;
};
template <class Rule>
class Prepared<Cpu, Rule> {
 public:
  explicit Prepared(const PreparedUpdate<Rule>& u) : constants_(*u.constants), decision_(*u.decision) {}
  const RuleConstants<Rule>& constants() const { return constants_; }
  const StepScalars& decision() const { return decision_; }

 private:
  RuleConstants<Rule> constants_;
  StepScalars decision_;
};

// Operands come as parameter, gradient, then what `kFactor` and `kCopy` say, then slots.
template <class Rule, bool kFactor, bool kCopy>
struct PreparedElement {
  Prepared<Backend, Rule> prepared;

  template <class... State>
  HOST_DEVICE void update(float& param, float& grad, float factor, State&... state) const {
    const StepScalars& decision = prepared.decision();
    if constexpr (TakesRawGradients<Rule>) {
      if (!decision.skip) prepared.constants().rule(param, grad, state...);
    } else if (!decision.skip) {
      const float limit = decision.clip_value;
      const float clipped = limit > 0 ? (grad < -limit ? -limit : (grad > limit ? limit : grad)) : grad;
      const float scaled = clipped * decision.grad_scale;
      const RuleConstants<Rule>& constants = prepared.constants();
      fused_step(constants.rule, constants.decay, constants.l2, kFactor ? scaled * factor : scaled, param, state...);
    }
    grad = 0;
  }

  template <class... State>
  HOST_DEVICE void operator()(float& param, float& grad, float& first, State&... state) const {
    if constexpr (kFactor && kCopy) {
      with_factor_and_copy(param, grad, first, state...);
    } else if constexpr (kFactor) {
      update(param, grad, first, state...);
    } else if constexpr (kCopy) {
      update(param, grad, 1.0f, state...);
      first = param;
    } else {
      update(param, grad, 1.0f, first, state...);
    }
  }
  HOST_DEVICE void operator()(float& param, float& grad) const { update(param, grad, 1.0f); }

 private:
  template <class... State>
  HOST_DEVICE void with_factor_and_copy(float& param, float& grad, float factor, float& copy, State&... state) const {
    update(param, grad, factor, state...);
    copy = param;
  }
};

// The granules of the variables of one group.
struct OfGroup {
  const uint32_t* variable_of;
  const uint32_t* groups;
  uint32_t group;
  HOST_DEVICE bool operator()(int64_t granule) const { return groups[variable_of[granule]] == group; }
};

template <bool kFactor, bool kCopy, class Rule, class... Between>
void update_elements(Stream& stream, const PreparedUpdate<Rule>& u, const Between&... between) {
  const PreparedElement<Rule, kFactor, kCopy> element{Prepared<Backend, Rule>(u)};
  [&]<size_t... I>(std::index_sequence<I...>) {
    if constexpr (kFactor) {
      if (u.segments.groups) {
        const OfGroup members{u.segments.variable_of, u.segments.groups, u.segments.group};
        return backend::elementwise_where(stream, u.param.size(), members, element, inout(data<float>(u.param)),
                                          inout(data<float>(u.grad)), between..., inout(data<float>(u.slots[I]))...);
      }
    }
    backend::elementwise(stream, u.param.size(), element, inout(data<float>(u.param)), inout(data<float>(u.grad)),
                         between..., inout(data<float>(u.slots[I]))...);
  }
  (std::make_index_sequence<kSlots<Rule>>{});
}

template <class Rule>
struct PrepareRow {
  Prepare<Rule> k;

  template <class Team>
  HOST_DEVICE void operator()(const Team& team, int64_t) const {
    if (k.decides) decide(team, k.verdict);
    team.once([this] {
      // A step that is skipped is tried at its rate.
      if (k.rates.values && !k.rates.counted)
        *k.state.learning_rate = k.rates.values[*k.state.iteration - k.rates.first];
      if (!k.state.decision->skip) advance();
    });
  }

  HOST_DEVICE void advance() const {
    int64_t& iteration = *k.state.iteration;
    if (!k.rates.counted) ++iteration;
    const double rate = k.rates.own >= 0 ? k.rates.own : *k.state.learning_rate * k.rates.factor;
    auto& constants = *static_cast<RuleConstants<Rule>*>(k.state.constants);
    if constexpr (requires { Rule::scalars; }) {
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
  // One row, as wide as it takes for a whole block to work on it.
  constexpr int64_t kWide = 1 << 20;
  backend::rowwise(stream, 1, kWide, PrepareRow<Rule>{k});
}

template <class Rule>
void run(Backend, Stream& stream, const PreparedUpdate<Rule>& u) {
  const PerGranule factors{u.segments.variable_of, u.segments.factors};
  const bool segmented = u.segments.factors != nullptr;
  check(segmented || !u.segments.groups, ErrorCode::internal, "update: groups of variables want factors of variables");
  if (u.working_copy.data == nullptr) {
    if (!segmented) return update_elements<false, false>(stream, u);
    return update_elements<true, false>(stream, u, factors);
  }
  check(u.working_copy.size() == u.param.size(), ErrorCode::internal, [&] {
    return str("update: expected a working copy of ", u.param.size(), " elements, got ", u.working_copy.size());
  });
  const auto copy = out(data<bfloat16>(u.working_copy));
  if (!segmented) return update_elements<false, true>(stream, u, copy);
  update_elements<true, true>(stream, u, factors, copy);
}

template struct RunOfRules<Prepare, Rules>;
template struct RunOfRules<Prepare, TensorRules>;
template struct RunOfRules<PreparedUpdate, Rules>;

}  // namespace lockstep
