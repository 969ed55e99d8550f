// SPDX-License-Identifier: Apache-2.0
#include "runtime/step/step_decision.h"

#include <algorithm>

#include "collectives/gradients/finite.h"
#include "kernels/device/upload.h"
#include "runtime/plan/buckets.h"

namespace lockstep {

StepDecision::StepDecision(Communicator& ranks, VariableStore& variables, const OptimizerSet& optimizer,
                           const StepTables& tables, const StepOptions& options, Pool& pool, Stream& stream,
                           uint64_t seed)
    : ranks_(ranks),
      device_(options.device),
      variables_(variables),
      optimizer_(optimizer),
      tables_(tables),
      clip_(options.clip),
      seed_(seed),
      on_repair_(options.on_repair),
      gate_(ranks, variables.plan().hash()),
      rates_(options.schedule, variables, pool, stream),
      fetched_(pool.device(), sizeof(StepOutcome)) {
  const bool looks_on_device = pool.device().kind != DeviceKind::cpu;
  if (looks_on_device || clip_.by_norm()) norms_.emplace(ranks, variables.plan(), pool, stream);
  if (options.audit_replicas) audit_.emplace(ranks, variables, pool, stream);
  if (audit_ && looks_on_device) audit_cells_.resize(size_t(audit_->cells()));
  const int64_t behind = audit_ && !looks_on_device ? audit_->cells() : 0;
  cells_ = Buffer(pool, (cells().count() + behind) * size_of(DType::f64), Purpose::scratch);
  for (int32_t group = 0; group < optimizer_.groups(); ++group)
    constants_.emplace_back(pool, optimizer_.group(group).optimizer->constants_bytes(), Purpose::scratch);
  const std::vector<StepScalars> decision(1);
  const std::vector<StepOutcome> outcome(1);
  decision_ = upload(decision, pool, stream);
  outcome_ = upload(outcome, pool, stream);
  stream.synchronize();  // the vectors go out of scope
}

StepCells StepDecision::cells() const {
  const PlanSettings& settings = variables_.plan().settings;
  return {static_cast<double*>(cells_.data()), settings.parts(), settings.sums, ranks_.size()};
}

// Returns the kernels' number of the first variable with a sum that is not finite among those this rank added up, or
// -1. It looks at sums a second time only after adding them has shown that there is one.
int32_t StepDecision::first_not_finite(const GradientReducer& reducer) const {
  if (reducer.sums_are_finite()) return -1;
  const std::span<const int32_t> trained = tables_.variables();
  for (size_t number = 0; number < trained.size(); ++number) {
    const PlannedVariable& variable = variables_.plan().variables[size_t(trained[number])];
    const Range seen = reducer.looked_at(size_t(variable.bucket));
    const int64_t begin = std::max(seen.begin, variable.offset);
    const int64_t end = std::min(seen.end, variable.offset + variable.local_elements);
    if (begin < end && !all_finite(data<float>(ConstView(reducer.sums({begin, end}))), end - begin))
      return int32_t(number);
  }
  return -1;
}

// One rank writes each cell and the others have zeros there, so the sum is exact in any order.
void StepDecision::exchange(const GradientReducer& reducer, Stream& stream) {
  if (device_ == nullptr) {
    cells().verdict(ranks_.rank()) = double(1 + first_not_finite(reducer));
    gate_.seal(cells());
    if (audit_) audit_->enter(cells().values + cells().count());
    ranks_.all_reduce(view_of_cells(), ReduceOp::sum, stream).wait(stream);
    gate_.pass(cells());
  } else if (device_->size() > 1) {
    device_->all_reduce(view_of_cells(), ReduceOp::sum, stream).wait(stream);
    if (audit_) exchange_audit();
  }
}

void StepDecision::exchange_audit() {
  audit_->enter(audit_cells_.data());
  Stream host = Stream::cpu();
  const Shape cells{audit_->cells()};
  ranks_.all_reduce({audit_cells_.data(), DType::f64, DeviceKind::cpu, cells}, ReduceOp::sum, host).wait(host);
}

bool StepDecision::mend_replicas() {
  if (!audit_ || audit_->are_equal(device_ ? audit_cells_.data() : cells().values + cells().count())) return false;
  const ReplicaRepair repair = audit_->repair(step_);
  if (on_repair_) on_repair_(repair);
  return true;
}

StepVerdict StepDecision::verdict(int64_t global_count, const LossDivisor& divisor) const {
  StepVerdict verdict{.squares = norms_ ? norms_->squares() : nullptr,
                      .variables = int32_t(tables_.variables().size()),
                      .cells = cells(),
                      .global_count = global_count,
                      .clip = ClipKind::none,
                      .limit = 0,
                      .factors = tables_.factors(),
                      .decision = static_cast<StepScalars*>(decision_.data()),
                      .outcome = static_cast<StepOutcome*>(outcome_.data())};
  verdict.divisor_sum = divisor.sum;
  verdict.divisor_unit = divisor.unit;
  if (clip_.clipnorm > 0) verdict.clip = ClipKind::each_variable, verdict.limit = clip_.clipnorm;
  if (clip_.global_clipnorm > 0) verdict.clip = ClipKind::all_variables, verdict.limit = clip_.global_clipnorm;
  if (clip_.clipvalue > 0) verdict.clip = ClipKind::values, verdict.limit = clip_.clipvalue;
  if (optimizer_.scaling()) {
    verdict.loss_scale = variables_.scalars().loss_scale_cell();
    verdict.growth_steps = double(optimizer_.scaling()->growth_steps);
  }
  return verdict;
}

void StepDecision::decide(GradientReducer& reducer, int64_t global_count, const LossDivisor& divisor, Stream& stream) {
  if (norms_) norms_->measure(reducer, stream);
  const StepVerdict verdict = this->verdict(global_count, divisor);
  // The first group's launch decides, counts the step and sets the run's rate; the others follow.
  for (int32_t group = 0; group < optimizer_.groups(); ++group) {
    LearningRates rates = rates_.rates();
    rates.factor = optimizer_.group(group).rate_factor;
    rates.own = optimizer_.group(group).own_rate.value_or(-1);
    rates.counted = group > 0;
    optimizer_.group(group).optimizer->prepare(stream, state(group), rates, group == 0 ? &verdict : nullptr);
  }
}

StepState StepDecision::state(int32_t group) const {
  return {.iteration = variables_.scalars().iteration_cell(),
          .learning_rate = variables_.scalars().learning_rate_cell(),
          .scalars = variables_.scalars().cells() + optimizer_.first_scalar(group),
          .decision = static_cast<StepScalars*>(decision_.data()),
          .constants = constants_[size_t(group)].data(),
          .seed = seed_};
}

void StepDecision::fetch_outcome(Stream& stream) {
  copy(stream, fetched_.data(), outcome_.data(), int64_t(sizeof(StepOutcome)));
}

}  // namespace lockstep
