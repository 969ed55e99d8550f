// SPDX-License-Identifier: Apache-2.0
#include "tools/planning/plan_verify.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "collectives/device_mesh.h"
#include "collectives/gradients/host_gradient_reducer.h"
#include "collectives/handshake.h"
#include "kernels/device/number_text.h"
#include "runtime/files/standard_output.h"
#include "runtime/plan/owners.h"
#include "runtime/plan/plan_text.h"
#include "runtime/step/memory_rehearsal.h"
#include "runtime/step/tensor_owners.h"
#include "tools/bench/benchmark.h"
#include "tools/training/made_up_parts.h"
#include "tools/training/training_run.h"

namespace lockstep {
namespace {

constexpr int kRounds = 25;  // rounds of interleaved timings; medians count

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Runs the collectives of a plan by themselves: nothing is computed between them.
class BareCommunication {
 public:
  BareCommunication(Communicator& batch, const std::vector<PlannedBucket>& buckets, int64_t elements, DType dtype)
      : batch_(batch),
        results_(size_t(2 * batch.size())),
        buckets_(buckets.size()),
        reducer_(batch, owned(batch, buckets), elements, ReduceMode::fast, batch.size(), dtype) {}

  // Seconds of one round among ranks that begin together.
  double seconds() {
    reducer_.begin_part(reducer_.first_part(), stream_);
    for (size_t b = 0; b < buckets_; ++b) reducer_.gradient_ready(b, stream_);
    batch_.barrier();
    const double start = now();
    const View cells{results_.data(), DType::f64, DeviceKind::cpu, Shape{int64_t(results_.size())}};
    batch_.all_reduce(cells, ReduceOp::sum, stream_).wait(stream_);
    reducer_.wait(stream_);
    const double seconds = now() - start;
    reducer_.meet();
    return seconds;
  }

 private:
  // One gradient for each bucket.
  static std::vector<GradientBucket> owned(const Communicator& batch, const std::vector<PlannedBucket>& planned) {
    Plan plan;
    plan.buckets = planned;
    std::vector<GradientBucket> buckets = gradient_buckets(plan, batch.node_of());
    for (GradientBucket& bucket : buckets) bucket.members = 1;
    return buckets;
  }

  Communicator& batch_;
  Stream stream_ = Stream::cpu();
  std::vector<double> results_;
  size_t buckets_;
  HostGradientReducer reducer_;
};

class Verification {
 public:
  Verification(const Planning& planning, Communicator& ranks, int64_t steps)
      : planning_(planning),
        ranks_(ranks),
        steps_(steps),
        plan_(plan_for(planning, ranks)),
        mesh_(ranks, plan_.settings.mesh),
        batch_(mesh_.group(plan_.settings.batch_axis).host()) {}

  void run() {
    run_steps();
    time_communication();
    int64_t wrong = different_;
    Stream stream = Stream::cpu();
    ranks_.all_reduce({&wrong, DType::i64, DeviceKind::cpu, Shape{}}, ReduceOp::sum, stream).wait(stream);
    if (ranks_.rank() == 0)
      print_output(
          fmt::format("{}\n", wrong == 0 ? "every term that must be exact is exact on every rank"
                                         : fmt::format("{} terms that must be exact are not, over all ranks", wrong)));
    check(wrong == 0, ErrorCode::internal,
          [&] { return str(wrong, " terms of the forecast differ from what was measured; the table shows rank 0's"); });
  }

 private:
  static Plan plan_for(const Planning& planning, Communicator& ranks) {
    check(planning.model() != nullptr, ErrorCode::usage,
          "--verify runs the model, and a model file lists variables only; use the name of a shipped model");
    PlannerInput input = planning.input();
    PlanSettings& settings = input.settings;
    settings.ranks_per_node = ranks_per_node(ranks);
    check(settings.ranks() == ranks.size(), ErrorCode::usage, [&] {
      return str("--verify runs the plan, whose mesh ", to_string(settings.mesh), " has ", settings.ranks(),
                 " ranks, but there are ", ranks.size(), "; start as many by mpirun, or use --ranks");
    });
    Plan plan = make_plan(input);
    check_runnable(plan);
    return plan;
  }

  void exact(const std::string& term, int64_t forecast, int64_t measured) {
    different_ += forecast != measured;
    if (ranks_.rank() == 0)
      print_output(fmt::format("  {:44}  {:>14}  {:>14}  {}\n", term, forecast, measured,
                               forecast == measured ? "equal" : "DIFFERENT"));
  }

  void run_steps();
  void check_log(std::span<const CollectiveRecord> records);
  void time_communication();

  const Planning& planning_;
  Communicator& ranks_;
  int64_t steps_;
  Plan plan_;
  DeviceMesh mesh_;
  Communicator& batch_;
  int64_t different_ = 0;
};

void Verification::run_steps() {
  TrainingRun run({*planning_.model(), planning_.optimizer(), plan_}, ranks_, {}, 1);
  const int64_t part_samples = std::max<int64_t>(1, plan_.settings.workload.batch / run.parts());
  const MadeUpParts parts(planning_.model()->columns, run.step().first_part(), run.step().last_part(), part_samples);
  const int64_t global_count = part_samples * run.parts();

  run.batch_axis().log().keep_records(true);
  const size_t before = run.batch_axis().log().records().size();
  for (int64_t step = 0; step < steps_; ++step) (void)run.step().run({step, global_count, parts.parts()});
  run.batch_axis().log().keep_records(false);

  const StateSizes sizes{plan_.frozen_bytes, plan_.local_bytes, plan_.slots};
  const PlannedMemory forecast = memory_of_rank(plan_.settings, plan_.buckets, sizes, ranks_.rank());
  const TransientMemory transient = rehearse_part(
      planning_.variables(),
      [&](Context& context, const Batch& batch) { return planning_.model()->forward(context, batch); },
      {planning_.model()->columns, parts.parts().empty() ? 0 : part_samples, plan_.settings.accumulation,
       plan_.settings.activations},
      1);
  if (ranks_.rank() == 0) print_output(fmt::format("  {:44}  {:>14}  {:>14}\n", "rank 0", "forecast", "measured"));
  exact("bytes that stay: parameters", forecast.parameters, run.pool().live(Purpose::parameters).now);
  exact("bytes that stay: slots", forecast.slots, run.pool().live(Purpose::slots).now);
  exact("bytes that stay: gradients", forecast.gradients, run.pool().live(Purpose::gradients).now);
  exact("bytes that stay: scalars", forecast.scalars, run.pool().live(Purpose::scalars).now);
  exact("bytes at the peak: activations", transient.activations, run.pool().live(Purpose::activations).peak);
  const std::vector<int32_t> tensors = tensors_of_rank(plan_, run.optimizer(), batch_.place());
  exact("bytes at the peak: scratch of kernels",
        std::max(transient.scratch, rehearse_updates(plan_, run.optimizer(), tensors, 1)),
        run.stream().scratch_bytes());
  check_log(std::span(run.batch_axis().log().records()).subspan(before));
}

void Verification::check_log(std::span<const CollectiveRecord> records) {
  const std::vector<PlannedCollective> of_step = plan_.sequence();
  exact(str("collectives of ", steps_, " steps"), steps_ * int64_t(of_step.size()), int64_t(records.size()));
  int64_t unlike = 0, planned_bytes = 0, bytes = 0;
  for (size_t i = 0; i < records.size() && !of_step.empty(); ++i) unlike += records[i] != of_step[i % of_step.size()];
  for (const PlannedCollective& c : of_step) planned_bytes += steps_ * c.bytes;
  for (const CollectiveRecord& c : records) bytes += c.bytes;
  exact("their bytes", planned_bytes, bytes);
  exact("differences in order, kind, dtype, group, bytes", 0, unlike);
}

// Fits alpha and beta to two sizes of bucket, measured beside the plan's own sequence.
void Verification::time_communication() {
  if (batch_.size() == 1) {
    if (ranks_.rank() == 0) print_output("  one rank on the batch axis: no communication to time\n");
    return;
  }
  std::vector<PlannedBucket> buckets;
  int64_t largest = 0;
  for (const PlannedBucket& b : plan_.buckets) {
    buckets.push_back({.begin = b.begin, .end = b.end, .variables = {}});
    largest = std::max(largest, b.elements());
  }
  const int64_t small = std::max<int64_t>(kGranule * batch_.size(), round_up(largest / 8, kGranule));
  const int64_t large = std::max(largest, 4 * small);
  const DType dtype = plan_.settings.reduce_dtype;
  const int64_t small_bytes = small * size_of(dtype), large_bytes = large * size_of(dtype);
  BareCommunication plan_round(batch_, buckets, plan_.arena_elements, dtype);
  BareCommunication small_round(batch_, {{.begin = 0, .end = small, .variables = {}}}, plan_.arena_elements + large,
                                dtype);
  BareCommunication large_round(batch_, {{.begin = 0, .end = large, .variables = {}}}, plan_.arena_elements + large,
                                dtype);
  std::vector<double> plan_seconds, small_seconds, large_seconds;
  for (int round = 0; round < kRounds; ++round) {
    small_seconds.push_back(small_round.seconds());
    plan_seconds.push_back(plan_round.seconds());
    large_seconds.push_back(large_round.seconds());
  }
  if (ranks_.rank() != 0) return;
  const double measured = median(plan_seconds);
  if (median(large_seconds) <= median(small_seconds)) {
    print_output(
        fmt::format("  no times: {} took {:.1f} us and {} took {:.1f} us, so something else uses the machine\n",
                    readable_bytes(small_bytes), median(small_seconds) * 1e6, readable_bytes(large_bytes),
                    median(large_seconds) * 1e6));
    return;
  }
  // A round has an all-reduce of losses, of next to no bytes, and one bucket: three times the latency of a bucket.
  LinkCost link = fit_link(CollectiveKind::reduce_scatter, batch_.size(), small_bytes, median(small_seconds),
                           large_bytes, median(large_seconds));
  link.alpha_seconds /= 3;
  print_output(fmt::format("  fitted to buckets of {} and {}: alpha {:.1f} us, beta {:.2f} GB/s\n",
                           readable_bytes(small_bytes), readable_bytes(large_bytes), link.alpha_seconds * 1e6,
                           1e-9 / link.seconds_per_byte));
  const MachineProfile machine{"this machine", link, link, 0};
  const double forecast = forecast_step(plan_.settings, plan_.buckets, machine).communication_seconds;
  print_output(fmt::format("  {:44}  {:>14.1f}  {:>14.1f}  {:+.1f} %\n", "communication of a step by itself, us",
                           forecast * 1e6, measured * 1e6, (forecast / measured - 1) * 100));
}

}  // namespace

void verify_plan(const Planning& planning, Communicator& communicator, int64_t steps) {
  check_agreement(communicator, {{"plan", str(planning.plan().hash())},
                                 {"optimizer", planning.optimizer().description()},
                                 {"steps and dropout", str(steps, " ", exact(planning.dropout()))}});
  Verification(planning, communicator, steps).run();
}

}  // namespace lockstep
