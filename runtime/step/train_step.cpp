// SPDX-License-Identifier: Apache-2.0
#include "runtime/step/train_step.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "collectives/gradients/device_gradient_reducer.h"
#include "collectives/gradients/host_gradient_reducer.h"
#include "kernels/device/profiling.h"
#include "kernels/dropout.h"
#include "kernels/pointwise.h"
#include "runtime/plan/buckets.h"
#include "runtime/plan/owners.h"
#include "runtime/step/audit/finite_search.h"
#include "runtime/step/forward_backward.h"

namespace lockstep {
namespace {

// Options are checked before anything is allocated.
const StepOptions& checked(const StepOptions& options, const Communicator& ranks, const Stream& stream) {
  check_clip_options(options.clip);
  const bool on_cpu = stream.device().kind == DeviceKind::cpu;
  check(on_cpu == (options.device == nullptr), ErrorCode::internal,
        "a step on a GPU needs the communicator that carries its gradients, and one on the CPU has none");
  check(!on_cpu || !options.graph, ErrorCode::usage,
        "a graph records the work of a GPU; leave --graph out on CPU ranks");
  check(!options.graph || ranks.size() == 1 || options.device->recordable(), ErrorCode::usage, [&] {
    return str("--graph records collectives, which the transport '", options.device->transport(),
               "' does with the help of the host; use --transport nccl, or leave --graph out");
  });
  check(!options.graph || !(options.audit_replicas || options.record_parts), ErrorCode::usage,
        "--audit and --record let the host look at hashes in every step, which a recorded step cannot; leave --graph "
        "or them out");
  return options;
}

std::unique_ptr<GradientReducer> make_reducer(Communicator& ranks, const StepOptions& options, const Plan& plan,
                                              const std::vector<GradientBucket>& buckets, Pool& pool, Stream& stream) {
  const PlanSettings& s = plan.settings;
  if (options.device == nullptr)
    return std::make_unique<HostGradientReducer>(ranks, buckets, plan.arena_elements, s.reduce, s.virtual_ranks,
                                                 s.reduce_dtype);
  return std::make_unique<DeviceGradientReducer>(*options.device, buckets, plan.arena_elements, s.reduce,
                                                 s.virtual_ranks, pool, stream, s.reduce_dtype, ranks_of_node(s));
}

}  // namespace

TrainStep::TrainStep(Communicator& communicator, VariableStore& variables, const OptimizerSet& optimizer,
                     Forward forward, Stream& stream, Pool& pool, uint64_t seed, const StepOptions& options)
    : ranks_(communicator),
      variables_(variables),
      forward_(std::move(forward)),
      stream_(stream),
      pool_(pool),
      seed_(seed),
      options_(checked(options, communicator, stream)),
      buckets_(gradient_buckets(variables.plan(), communicator.node_of())),
      reducer_(make_reducer(communicator, options, variables.plan(), buckets_, pool, stream)),
      tables_(variables.plan(), optimizer, pool, stream),
      decision_(communicator, variables, optimizer, tables_, options, pool, stream, seed),
      update_(communicator, variables, optimizer, tables_, buckets_, options.clip.clipnorm > 0, pool),
      upload_(stream, pool, [device = options.device](Event& event) { device->wait_for(event); }),
      clock_(stream.device()),
      abandon_(options.device) {
  scales_loss_ = optimizer.scaling().has_value();
  if (options.record_parts) record_.emplace(variables.plan(), tables_.variables(), pool, stream);
  pool_.enter(Purpose::gradients, reducer_->shared_bytes());
}

TrainStep::~TrainStep() { pool_.enter(Purpose::gradients, -reducer_->shared_bytes()); }

void TrainStep::queue(const StepInput& input) {
  const ProfilerRange range("step", input.step);
  if (first_step_ < 0) first_step_ = input.step;
  decision_.begin_step(input.step);
  if (record_) record_->begin_step(input.parts);
  const BatchUpload::OnDevice& batch = upload_.bring(input.parts, dropout_key(seed_, input.step));
  const StepInput on_device{input.step, input.global_count, batch.parts};
  const auto work = [&] { take(on_device, batch.dropout_key); };
  if (options_.graph)
    graphs_.run(stream_, ranks_, shape_of(on_device), upload_.piece(),
                {upload_.generation(), decision_.generation(), tables_.generation(), stream_.scratch_bytes()}, work);
  else
    work();
  // On the CPU the outcome is already there: nothing may go on after a loss that is not finite.
  if (options_.device != nullptr) return;
  decision_.fetch_outcome(stream_);
  trace_not_finite(on_device, batch.dropout_key);
  check_loss();
}

void TrainStep::take(const StepInput& input, const ConstView& dropout_key) {
  const auto phase = [&](const char* name, StepMark end, const auto& body) {
    const ProfilerRange range(name);
    body();
    mark(end);
  };
  do {
    mark(StepMark::begun);
    phase("compute", StepMark::computed, [&] {
      decision_.clear_cells(stream_);
      for (const BatchPart& part : input.parts) compute_part(part, dropout_key, input.global_count);
      if (input.parts.empty()) reducer_->without_parts(stream_);
      if (record_) record_->end_step(decision_.cells());
    });
    phase("reduce", StepMark::reduced, [&] {
      reducer_->wait(stream_);
      decision_.exchange(*reducer_, stream_);
    });
  } while (decision_.mend_replicas());
  phase("update", StepMark::updated, [&] {
    decision_.decide(*reducer_, input.global_count, divisor_, stream_);
    update_.run(decision_, *reducer_, stream_);
  });
  phase("meet", StepMark::done, [&] { reducer_->meet(); });
}

void TrainStep::compute_part(const BatchPart& part, const ConstView& dropout_key, int64_t global_count) {
  const View arena = part_gradients_ = reducer_->begin_part(part.number, stream_);
  part_ = part.number;
  if (part.batch.samples() == 0) {  // a partial batch may leave parts without samples
    launch(stream_, Fill{arena, 0.0f});
    for (const int32_t variable : tables_.variables()) ready(variable);
    return;
  }
  const std::vector<BatchPart> micro = micro_batches(part, variables_.plan().settings.accumulation);
  for (size_t m = 0; m < micro.size(); ++m) {
    const bool last = m + 1 == micro.size();
    const Results results = run_pass({.micro_batch = micro[m],
                                      .gradients = arena,
                                      .kind = m == 0 ? Tape::Destination::fresh : Tape::Destination::adds_up,
                                      .cells = decision_.cells(),
                                      .dropout_key = dropout_key,
                                      .global_count = global_count,
                                      .ready = [this, last](int32_t variable) {
                                        if (last) ready(variable);
                                      }});
    std::vector<std::string> names;
    for (const NamedSum& sum : results.sums) names.push_back(sum.name);
    learn_sums(names, results.divisor);
  }
}

Results TrainStep::run_pass(const Pass& pass) {
  tape_.clear();
  watch_variables(pass.gradients, pass.kind);
  Context context(stream_, pool_, &tape_);
  context.set_values(variables_.values());
  if (options_.groups) context.set_groups(*options_.groups);
  context.set_activations(variables_.plan().settings.activations);
  context.set_observer(pass.observer);
  context.random() = {.key = pass.dropout_key, .sample_ids = pass.micro_batch.batch.sample_ids()};
  // Every sample weighs one over the global batch, so that the sum over parts is the gradient of the mean loss,
  // whatever the sizes of the parts.
  return forward_backward(context, forward_, pass.micro_batch, pass.cells, 1 / float(pass.global_count), pass.ready,
                          variables_.scalars().loss_scale_cell());
}

// Nothing has been updated, so the parts of this rank come to the same once more.
void TrainStep::trace_not_finite(const StepInput& input, const ConstView& dropout_key) {
  const StepOutcome& outcome = decision_.outcome();
  const bool skipped = outcome.last_skipped >= 0 && outcome.last_skipped == outcome.steps - 1;
  const bool traced_before = std::exchange(skipped_before_, skipped);
  origin_.clear();
  // A loss scale is found by overflows, and of many steps that are skipped the first one tells.
  if (outcome.broken == 0 && (!skipped || traced_before || scales_loss_)) return;
  const Buffer gradients(pool_, variables_.plan().arena_elements * size_of(DType::f32), Purpose::scratch);
  std::vector<double> numbers(size_t(decision_.cells().count()));
  StepCells cells = decision_.cells();
  cells.values = numbers.data();
  FiniteSearch search(variables_.plan());
  // Every part to its end: ops of the model may wait for other ranks.
  for (const BatchPart& part : input.parts) {
    if (part.batch.samples() == 0) continue;
    for (const BatchPart& micro : micro_batches(part, variables_.plan().settings.accumulation)) {
      search.begin(micro);
      (void)run_pass({.micro_batch = micro,
                      .gradients = gradients.view(DType::f32, Shape{variables_.plan().arena_elements}),
                      .kind = Tape::Destination::fresh,
                      .cells = cells,
                      .dropout_key = dropout_key,
                      .global_count = input.global_count,
                      .ready = {},
                      .observer = &search});
    }
  }
  const std::vector<std::string> all = ranks_.all_gather_bytes(search.found());
  const auto first = std::ranges::find_if(all, [](const std::string& found) { return !found.empty(); });
  origin_ = first == all.end()
                ? std::string(
                      "every part that is computed again is finite by itself: their sum overflows, or memory or "
                      "a processor failed for a moment")
                : str("the first op: ", *first, ", by ", ranks_.describe(int(first - all.begin())));
}

void TrainStep::learn_sums(const std::vector<std::string>& names, const LossDivisor& divisor) {
  if (sum_names_.empty()) {
    sum_names_ = names;
    divisor_.sum = divisor.sum;
  }
  check(
      names == sum_names_ && divisor.sum == divisor_.sum, ErrorCode::usage,
      "the model returned other named sums than before; it is to return the same ones, in one order, for every batch");
  check(divisor.sum < int32_t(names.size()) && divisor.unit > 0, ErrorCode::usage, [&] {
    return str("the model divides its losses by sum number ", divisor.sum, " over ", divisor.unit, ", but returns ",
               names.size(), " sums; expected one of them, and a unit above 0");
  });
  divisor_ = divisor;
}

void TrainStep::ready(int32_t variable) {
  const PlannedVariable& planned = variables_.plan().variables[size_t(variable)];
  const View gradient = slice(part_gradients_, planned.offset, planned.offset + planned.local_elements);
  if (spoiled_ && spoiled_->first == variable) {
    const int64_t element = spoiled_->second;
    launch(stream_, Fill{slice(gradient, element, element + 1), std::numeric_limits<float>::quiet_NaN()});
    spoiled_.reset();
  }
  if (record_) record_->enter(part_, tables_.number_of(variable), gradient);
  reducer_->gradient_ready(size_t(planned.bucket), stream_);
}

void TrainStep::watch_variables(const View& arena, Tape::Destination kind) {
  for (const int32_t v : tables_.variables()) {
    const PlannedVariable& variable = variables_.plan().variables[size_t(v)];
    View destination = slice(arena, variable.offset, variable.offset + variable.local_elements);
    destination.shape = variable.shape;
    tape_.watch(variables_.values()[size_t(v)], v, destination, variable.path, kind);
  }
}

const PlannedVariable& TrainStep::trained(std::string_view path) const {
  const PlannedVariable& variable = variables_.plan().at(path);
  check(variable.in_gradient_sync, ErrorCode::plan, [&] {
    return str("variable ", path, " is not trained (role ", to_string(variable.role),
               "): it has no gradient, and its updates cannot be stopped or taken up again");
  });
  return variable;
}

void TrainStep::set_frozen(std::string_view path, bool frozen) {
  tables_.set_frozen(stream_, int32_t(&trained(path) - variables_.plan().variables.data()), frozen);
}

void TrainStep::spoil_gradient(std::string_view path, int64_t element) {
  check(!options_.graph, ErrorCode::usage,
        "a gradient is spoiled in one step, but a recorded step does the same each time; leave --graph out");
  const PlannedVariable& variable = trained(path);
  check(element >= 0 && element < variable.local_elements, ErrorCode::usage,
        [&] { return str("expected an element of ", path, " below ", variable.local_elements, ", got ", element); });
  check(first_part() < last_part(), ErrorCode::usage, [&] {
    return str("expected a rank that computes a part of the batch, got ", ranks_.describe(ranks_.rank()),
               ", which computes none of ", variables_.plan().settings.parts());
  });
  spoiled_ = {int32_t(&variable - variables_.plan().variables.data()), element};
}

void TrainStep::check_loss() {
  decision_.fetch_outcome(stream_);
  if (options_.device) options_.device->synchronize(stream_);
  const StepOutcome& outcome = decision_.outcome();
  check(outcome.broken == 0, ErrorCode::numbers, [&] {
    return str("the loss is ", outcome.broken_loss, " at step ", first_step_ + outcome.broken_step,
               ", so training stopped before the update; lower the learning rate (now ",
               variables_.scalars().learning_rate(), ") or look at the data of this step",
               origin_.empty() ? "" : "; " + origin_);
  });
}

StepReport TrainStep::report() {
  check_loss();
  const StepOutcome& outcome = decision_.outcome();
  StepReport report;
  report.loss = outcome.loss;
  for (size_t i = 0; i < sum_names_.size(); ++i)
    report.sums.push_back({sum_names_[i], outcome.sums[i], outcome.sums_of_all_steps[i]});
  report.skipped = outcome.last_skipped >= 0 && outcome.last_skipped == outcome.steps - 1;
  report.loss_sum = outcome.loss_sum;
  report.skipped_sum = outcome.skipped;
  if (outcome.last_not_finite >= 0) {
    const int32_t variable = tables_.variables()[size_t(outcome.last_not_finite)];
    report.last_not_finite = variables_.plan().variables[size_t(variable)].path;
  }
  if (report.skipped) report.not_finite = report.last_not_finite;
  if (report.skipped) report.origin = origin_;
  if (options_.graph || outcome.steps == 0) return report;
  report.communication_seconds =
      clock_.seconds(StepMark::computed, StepMark::reduced) + clock_.seconds(StepMark::updated, StepMark::done);
  report.compute_seconds =
      clock_.seconds(StepMark::begun, StepMark::computed) + clock_.seconds(StepMark::reduced, StepMark::updated);
  return report;
}

}  // namespace lockstep
