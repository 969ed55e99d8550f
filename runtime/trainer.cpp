// SPDX-License-Identifier: Apache-2.0
#include "runtime/trainer.h"

#include <algorithm>
#include <utility>

#include "collectives/handshake.h"
#include "kernels/device/known_name.h"
#include "kernels/device/number_text.h"
#include "kernels/numerics.h"
#include "runtime/data/sample_order.h"
#include "runtime/state/ledger.h"
#include "runtime/state/state_file.h"
#include "runtime/step/forward_backward.h"
#include "runtime/step/memory_rehearsal.h"
#include "runtime/variables/precision.h"

namespace lockstep {

PlannedTraining plan_training(VariableTable variables, const TrainerOptions& options, int64_t ranks,
                              int64_t ranks_per_node, DeviceKind device) {
  const Precision& precision = parse_choice("precision", options.precision, kPrecisions);
  if (is_narrow(precision.weights)) variables.narrow_weights(precision.weights);
  std::vector<std::string_view> paths;
  for (const VariableDeclaration& variable : variables.declarations()) paths.push_back(variable.path);
  for (const std::string& path : options.freeze) check_known("variable", path, paths, list_of(paths));
  for (const std::string& path : options.freeze) variables.freeze(path);
  OptimizerChoice choice = options.optimizer;
  // f16 loses small gradients.
  if (precision.weights == DType::f16 && !choice.scaling) choice.scaling = LossScaling{};
  OptimizerSet optimizer = make_optimizer_set(variables, choice);
  std::optional<Schedule> schedule;
  if (!options.schedule.empty()) schedule = make_schedule(options.schedule, optimizer.learning_rate());
  PlanSettings asked = options.plan;
  if (asked.mesh.empty()) asked.mesh = {{"data", int(ranks)}};
  asked.copies = device == DeviceKind::cpu ? Copies::per_node : Copies::per_rank;
  asked.ranks_per_node = ranks_per_node;
  asked.stochastic_rounding = precision.stochastic_rounding;
  Plan plan = make_plan({.variables = variables, .optimizer = optimizer, .settings = asked});
  return {std::move(variables), std::move(optimizer), std::move(schedule), std::move(plan)};
}

Trainer::Prepared Trainer::prepare(Communicator& ranks, VariableTable variables, const TrainerOptions& options) {
  const RunDevice device = choose_run_device(ranks, options.device, options.transport, options.threads);
  PlannedTraining planned =
      plan_training(std::move(variables), options, ranks.size(), ranks_per_node(ranks), device.device.kind);
  const auto& [clipnorm, global_clipnorm, clipvalue] = options.clip;
  check_agreement(ranks, {{"plan", str(planned.plan.hash())},
                          {"optimizer", planned.optimizer.description()},
                          {"schedule", planned.schedule ? planned.schedule->text() : "none"},
                          {"seed", str(options.seed)},
                          {"numerics", numerics(device.device)},
                          {"clipping", str(exact(clipnorm), " ", exact(global_clipnorm), " ", exact(clipvalue))}});
  return {device, std::move(planned)};
}

Trainer::Trainer(Communicator& ranks, PlannedTraining planned, Forward model, const RunDevice& device, uint64_t seed,
                 const StepOptions& options)
    : ranks_(ranks),
      planned_(std::move(planned)),
      model_(std::move(model)),
      mesh_(ranks, planned_.plan.settings.mesh),
      batch_axis_(mesh_.group(planned_.plan.settings.batch_axis).host()),
      stream_(device.stream()),
      pool_(stream_.device()),
      store_(planned_.plan, planned_.variables, planned_.optimizer, batch_axis_, pool_, seed,
             device.device.kind == DeviceKind::cuda ? &stream_ : nullptr),
      device_communicator_(device.device.kind == DeviceKind::cpu
                               ? nullptr
                               : make_device_communicator(batch_axis_, device.device, device.transport)),
      step_(batch_axis_, store_, planned_.optimizer, model_, stream_, pool_, seed, step_options(options)) {}

StepOptions Trainer::step_options(const StepOptions& options) {
  StepOptions complete = options;
  complete.schedule = planned_.schedule ? &*planned_.schedule : nullptr;
  complete.device = device_communicator_.get();
  for (const MeshGroup& group : mesh_.groups()) {
    const bool is_batch = group.name() == planned_.plan.settings.batch_axis;
    groups_.emplace_back(group.name(), group.host(), is_batch ? device_communicator_.get() : nullptr);
  }
  complete.groups = &groups_;
  return complete;
}

std::string_view Trainer::transport() const {
  return device_communicator_ ? device_communicator_->transport() : ranks_.transport();
}

std::string_view Trainer::remark() const {
  return device_communicator_ ? std::string_view(device_communicator_->remark()) : std::string_view();
}

// Samples without numbers are numbered by their rows: dropout is also keyed by the step.
const Batch& Trainer::with_ids(const Batch& batch) {
  if (batch.sample_ids().data != nullptr) return batch;
  for (auto row = int64_t(ids_.size()); row < batch.samples(); ++row) ids_.push_back(row);
  with_ids_ = Batch(batch.columns(), {ids_.data(), DType::i64, DeviceKind::cpu, Shape{batch.samples()}});
  return with_ids_;
}

std::vector<BatchPart> Trainer::own_parts(const Batch& batch) const {
  std::vector<BatchPart> parts;
  for (int part = step_.first_part(); part < step_.last_part(); ++part) {
    const SampleRange rows = part_range(batch.samples(), planned_.plan.settings.parts(), part);
    parts.push_back({part, batch.rows(rows.begin, rows.end)});
  }
  return parts;
}

// A rank whose parts have no samples learns the names from a rehearsal.
void Trainer::learn_sums(const Batch& batch) {
  if (!sum_names_.empty()) return;
  std::vector<std::string> names;
  const Forward spy = [&](Context& context, const Batch& rows) {
    Results results = model_(context, rows);
    for (const NamedSum& sum : results.sums) names.push_back(sum.name);
    divisor_ = results.divisor;
    return results;
  };
  (void)rehearse_part(planned_.variables, spy, shape_of(batch, 1), 1, &groups_);
  step_.learn_sums(names, divisor_);
  sum_names_ = std::move(names);
}

StepReport Trainer::run(const Batch& batch) {
  check(batch.samples() > 0, ErrorCode::usage, "expected a batch of at least one sample, got none");
  const Batch& numbered = with_ids(batch);
  const std::vector<BatchPart> parts = own_parts(numbered);
  if (std::ranges::all_of(parts, [](const BatchPart& part) { return part.batch.samples() == 0; })) learn_sums(batch);
  StepReport report = step_.run({next_step_, batch.samples(), parts});
  ++next_step_;
  return report;
}

Evaluation Trainer::evaluate(const Batch& batch) {
  learn_sums(batch);
  const size_t columns = 1 + sum_names_.size();
  std::vector<double> cells(size_t(planned_.plan.settings.parts()) * columns);
  std::vector<BatchPart> parts = own_parts(with_ids(batch));
  BatchUpload upload(stream_, pool_, [](Event& event) { event.synchronize(); });
  const AbandonOnFailure abandon(device_communicator_.get());
  for (const BatchPart& part : parts) {
    if (part.batch.samples() == 0) continue;
    const BatchUpload::OnDevice& there = upload.bring({&part, 1}, 0);
    Context context(stream_, pool_, nullptr);
    context.set_values(store_.values());
    context.set_groups(groups_);
    const Results results = model_(context, there.parts[0].batch);
    const auto number = [&](const Tensor& values) {
      const Tensor total = sum_over_samples(context, values);
      const ConstView view = total;
      return double(*data<float>(stream_.handle() ? HostValue(view, stream_).view() : view));
    };
    double* row = cells.data() + size_t(part.number) * columns;
    row[0] = number(results.loss);
    for (size_t i = 0; i < results.sums.size(); ++i) row[1 + i] = number(results.sums[i].values);
  }
  Stream host = Stream::cpu();
  batch_axis_.all_reduce({cells.data(), DType::f64, DeviceKind::cpu, Shape{int64_t(cells.size())}}, ReduceOp::sum, host)
      .wait(host);
  Evaluation evaluation{.sums = {}, .samples = batch.samples()};
  for (const std::string& name : sum_names_) evaluation.sums.push_back({name, 0, 0});
  for (size_t cell = 0; cell < cells.size(); ++cell)
    (cell % columns == 0 ? evaluation.loss : evaluation.sums[cell % columns - 1].value) += cells[cell];
  const double total = divisor_.sum < 0 ? 0 : evaluation.sums[size_t(divisor_.sum)].value;
  evaluation.loss /= divisor_.of(batch.samples(), total);
  return evaluation;
}

std::string Trainer::ledger_line(const StepReport& report) const {
  return lockstep::ledger_line(next_step_ - 1, report.loss, store_, 0);
}

void Trainer::save(const std::string& path) {
  ranks_.barrier();  // nobody writes any more
  if (ranks_.rank() == 0) save_state(path, store_);
  ranks_.barrier();
}

int64_t Trainer::resume(const std::string& path) {
  restore_state(path, store_, ranks_);
  return next_step_ = store_.scalars().iteration();
}

}  // namespace lockstep
