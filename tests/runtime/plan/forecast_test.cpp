// SPDX-License-Identifier: Apache-2.0
// The contract of the forecast: bytes and collectives of a plan are those of the run that follows it, exactly.
#include "runtime/plan/forecast.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "collectives/device_mesh.h"
#include "kernels/softmax.h"
#include "runtime/layers/linear.h"
#include "runtime/layers/metrics.h"
#include "runtime/ops/ops.h"
#include "runtime/plan/planner.h"
#include "runtime/step/memory_rehearsal.h"
#include "runtime/step/tensor_owners.h"
#include "runtime/step/train_step.h"
#include "runtime/variables/parameter_groups.h"
#include "tests/support/batch_parts.h"
#include "tests/support/ranks.h"

namespace lockstep {
namespace {

// A model, a mesh and a way to train, drawn from a seed.
struct RandomCase {
  VariableTable variables;
  std::vector<Linear> layers;
  std::vector<int> activations;
  float dropout_rate = 0;
  int64_t inputs = 1, classes = 2;
  std::vector<MeshAxis> mesh;
  std::string batch_axis;
  int64_t ranks_per_node = 0;
  ReduceMode mode = ReduceMode::tree;
  DType reduce_dtype = DType::f32;
  int virtual_ranks = 1;
  int64_t bucket_bytes = 1;
  std::string optimizer;
  int64_t part_samples = 1;

  explicit RandomCase(uint64_t seed) {
    std::mt19937_64 random(seed);
    const auto below = [&](int64_t n) { return int64_t(random() % uint64_t(n)); };
    inputs = 1 + below(20);
    classes = 2 + below(6);
    int64_t width = inputs;
    for (int64_t i = below(4); i-- > 0;) {
      const int64_t next = 1 + below(40);
      layers.emplace_back(variables, str("layer_", layers.size()), width, next);
      activations.push_back(int(below(4)));
      width = next;
      declare_others(below);
    }
    layers.emplace_back(variables, "logits", width, classes);
    declare_others(below);
    dropout_rate = below(2) ? 0.25f : 0.0f;

    const int64_t batch_ranks = 1 + below(4), other_ranks = 1 + below(2);
    mesh = {{"data", int(batch_ranks)}, {"other", int(other_ranks)}};
    batch_axis = "data";
    if (below(2)) std::swap(mesh[0], mesh[1]);
    if (below(3) == 0) mesh = {{"batch", int(1 + below(8))}}, batch_axis = "batch";
    if (below(2)) ranks_per_node = 1 + below(ranks());
    mode = below(4) ? ReduceMode::tree : ReduceMode::fast;
    virtual_ranks = int(1 + below(12));
    bucket_bytes = int64_t(1) << below(16);
    const std::vector<std::string_view> names = optimizer_names();
    optimizer = names[size_t(below(int64_t(names.size())))];
    part_samples = 1 + below(9);
    reduce_dtype = below(2) ? DType::bf16 : DType::f32;
  }

  int ranks() const {
    int product = 1;
    for (const MeshAxis& axis : mesh) product *= axis.size;
    return product;
  }
  Plan plan(const OptimizerSet& with) const {
    return make_plan({.variables = variables,
                      .optimizer = with,
                      .settings = {.mesh = mesh,
                                   .batch_axis = batch_axis,
                                   .reduce = mode,
                                   .reduce_dtype = reduce_dtype,
                                   .virtual_ranks = virtual_ranks,
                                   .bucket_bytes = bucket_bytes,
                                   .ranks_per_node = ranks_per_node}});
  }
  ThreadRanks threads() const {
    ThreadRanks threads{.ranks = ranks(), .node_of = {}, .timeout = std::chrono::seconds(60)};
    if (ranks_per_node > 0)
      for (int rank = 0; rank < ranks(); ++rank) threads.node_of.push_back(int(rank / ranks_per_node));
    return threads;
  }

  Results forward(Context& context, const Batch& batch) const {
    Tensor x = batch["inputs"];
    for (size_t i = 0; i + 1 < layers.size(); ++i) {
      x = layers[i](context, x);
      if (activations[i] == 1) x = relu(context, x);
      if (activations[i] == 2) x = gelu(context, x);
      if (activations[i] == 3) x = dropout(context, tanh(context, x), dropout_rate);
    }
    const Tensor labels = batch["labels"], scores = layers.back()(context, x);
    return Results{softmax_cross_entropy(context, scores, labels),
                   {{"correct", count_correct(context, scores, labels)}}};
  }

 private:
  // Everything that is planned without being used: scalars, empty and frozen variables, bookkeeping.
  template <class Below>
  void declare_others(const Below& below) {
    const std::string name = str("other_", variables.declarations().size());
    switch (below(9)) {
      case 0:
        variables.parameter(name, {}, Initializer::constant(1));
        break;
      case 1:
        variables.parameter(name, {below(3), below(4)}, Initializer::constant(1));
        break;
      case 2:
        variables.declare({name, {below(200)}, DType::f32, Role::frozen_parameter, Initializer::constant(2), {}});
        break;
      case 3:
        variables.declare({name, {}, DType::i64, Role::metric, {}, {}});
        break;
      case 4:
        variables.declare({name, {below(5)}, DType::f32, Role::statistic, {}, {}, Aggregation::mean});
        break;
      case 5:
        variables.declare({name, {3}, DType::i64, Role::random_state, Initializer::constant(7), {}});
        break;
      default:
        break;
    }
  }
};

struct Samples {
  std::vector<float> inputs;
  std::vector<int32_t> labels;
  std::vector<int64_t> ids;
  Samples(int64_t n, int64_t width) : inputs(size_t(n * width), 0.5f), labels(size_t(n), 1) {
    for (int64_t i = 0; i < n; ++i) ids.push_back(i);
  }
  BatchPart part(int number) const {
    const auto n = int64_t(labels.size());
    return labelled_part(number, {inputs.data(), DType::f32, DeviceKind::cpu, Shape{n, int64_t(inputs.size()) / n}},
                         {labels.data(), DType::i32, DeviceKind::cpu, Shape{n}},
                         {ids.data(), DType::i64, DeviceKind::cpu, Shape{n}});
  }
};

constexpr int64_t kSteps = 2;

// What one rank finds different from the plan, in words; empty when nothing is.
std::string differences(const RandomCase& c, const Plan& plan, const OptimizerSet& optimizer, Communicator& ranks) {
  const DeviceMesh mesh(ranks, plan.settings.mesh);
  Communicator& batch = mesh.group(plan.settings.batch_axis).host();
  Stream stream = Stream::cpu();
  Pool pool(stream.device());
  const Forward forward = [&](Context& context, const Batch& batch) { return c.forward(context, batch); };
  VariableStore store(plan, c.variables, optimizer, batch, pool, 3);
  TrainStep step(batch, store, optimizer, forward, stream, pool, 3);
  const Samples samples(c.part_samples, c.inputs);
  std::vector<BatchPart> parts;
  for (int part = step.first_part(); part < step.last_part(); ++part) parts.push_back(samples.part(part));
  const size_t before = batch.log().records().size();
  batch.log().keep_records(true);
  for (int64_t s = 0; s < kSteps; ++s) (void)step.run({s, c.part_samples * plan.settings.parts(), parts});

  std::string text;
  const auto same = [&](std::string_view what, int64_t planned, int64_t found) {
    if (planned != found)
      text += str("rank ", ranks.rank(), ": ", what, ": planned ", planned, ", found ", found, "\n");
  };
  const StateSizes sizes{plan.frozen_bytes, plan.local_bytes, plan.slots};
  const PlannedMemory planned = memory_of_rank(plan.settings, plan.buckets, sizes, ranks.rank());
  same("parameters", planned.parameters, pool.live(Purpose::parameters).now);
  same("slots", planned.slots, pool.live(Purpose::slots).now);
  same("gradients", planned.gradients, pool.live(Purpose::gradients).now);
  same("scalars", planned.scalars, pool.live(Purpose::scalars).now);
  const bool listed = std::any_of(plan.classes.begin(), plan.classes.end(),
                                  [&](const RankClass& members) { return members.memory == planned; });
  same("a class of ranks that holds this", 1, listed);
  const TransientMemory transient =
      rehearse_part(c.variables, forward, labelled_shape({c.inputs}, parts.empty() ? 0 : c.part_samples), 1);
  same("activations at the peak", transient.activations, pool.live(Purpose::activations).peak);
  const std::vector<int32_t> tensors = tensors_of_rank(plan, optimizer, batch.place());
  same("scratch", std::max(transient.scratch, rehearse_updates(plan, optimizer, tensors, 1)), stream.scratch_bytes());

  std::vector<CollectiveRecord> expected;
  for (int64_t s = 0; s < kSteps; ++s)
    for (const PlannedCollective& p : plan.sequence()) expected.push_back(p);
  const std::vector<CollectiveRecord> trace(batch.log().records().begin() + std::ptrdiff_t(before),
                                            batch.log().records().end());
  same("collectives", int64_t(expected.size()), int64_t(trace.size()));
  for (size_t i = 0; i < std::min(expected.size(), trace.size()); ++i)
    if (!(expected[i] == trace[i]))
      text += str("rank ", ranks.rank(), ": collective ", i, ": planned ", to_string(expected[i].kind), " ",
                  expected[i].group, " ", expected[i].bytes, ", found ", to_string(trace[i].kind), " ", trace[i].group,
                  " ", trace[i].bytes, "\n");
  return text;
}

void expect_exact(uint64_t first_seed, int cases) {
  int64_t collectives = 0, several_nodes = 0;
  for (uint64_t seed = first_seed; seed < first_seed + uint64_t(cases); ++seed) {
    SCOPED_TRACE(str("seed ", seed));
    RandomCase c(seed);
    const OptimizerSet optimizer = make_optimizer_set(c.variables, {.name = c.optimizer});
    const Plan plan = c.plan(optimizer);
    collectives += int64_t(plan.sequence().size());
    several_nodes += c.ranks_per_node > 0 && c.ranks_per_node < c.ranks();
    std::vector<std::string> found(size_t(c.ranks()));
    run_thread_ranks(c.threads(), [&](Communicator& ranks) {
      found[size_t(ranks.rank())] = differences(c, plan, optimizer, ranks);
    });
    for (const std::string& text : found) EXPECT_EQ(text, "");
  }
  // The cases are worth something.
  EXPECT_GT(collectives, cases);
  EXPECT_GT(several_nodes, cases / 20);
}

TEST(Forecast, IsExactForRandomModelsMeshesAndRanks) { expect_exact(1, 40); }

TEST(ForecastOfManyModels, IsExact) { expect_exact(1000, 320); }

TEST(Forecast, CostsFollowTheFormulasOfTheRingAndOfHalving) {
  const MachineProfile machine{"m", {1e-6, 1e-9}, {1e-5, 1e-8}, 0};
  const auto seconds = [&](CollectiveKind kind, int64_t ranks, int64_t per_node) {
    return collective_seconds(kind, 1'000'000, {ranks, per_node}, machine);
  };
  EXPECT_DOUBLE_EQ(seconds(CollectiveKind::all_reduce, 1, 1), 0);
  EXPECT_DOUBLE_EQ(seconds(CollectiveKind::reduce_scatter, 2, 2), 1e-6 + 0.5e-3);
  EXPECT_DOUBLE_EQ(seconds(CollectiveKind::all_reduce, 2, 2), 2 * (1e-6 + 0.5e-3));
  EXPECT_DOUBLE_EQ(seconds(CollectiveKind::all_gather, 8, 8), 3 * 1e-6 + 7.0 / 8 * 1e-3);
  // Two nodes of four: a quarter of the bytes goes across.
  EXPECT_DOUBLE_EQ(seconds(CollectiveKind::all_reduce, 8, 4),
                   2 * (2 * 1e-6 + 0.75e-3) + 2 * (1e-5 + 0.5 * 0.25e6 * 1e-8));
}

PlanSettings on_ranks_with_gpus(int ranks, int64_t ranks_per_node = 0) {
  return {
      .mesh = {{"data", ranks}}, .batch_axis = "data", .copies = Copies::per_rank, .ranks_per_node = ranks_per_node};
}

TEST(Forecast, ChoosesBucketsOfGpusByWhatLatencyCosts) {
  EXPECT_EQ(default_bucket_bytes({.mesh = {{"data", 8}}, .batch_axis = "data"}), 4 << 20) << "on CPU ranks";
  EXPECT_EQ(default_bucket_bytes(on_ranks_with_gpus(1)), 25 << 20) << "the least: nothing has latency";
  EXPECT_EQ(default_bucket_bytes(on_ranks_with_gpus(64, 8)), 64 << 20) << "the most: the network has";
  // Latency is 2 x 3 x 8 us, a byte takes 2 x 7/8 / 400 GB/s: a fifth is reached at 4 x 48 us x 229 GB/s = 43.9 MB.
  EXPECT_EQ(default_bucket_bytes(on_ranks_with_gpus(8)), 42 << 20);
  const MachineProfile h200 = machine_profile("h200");
  EXPECT_LE(latency_share(42 << 20, {8, 8}, h200), 0.2);
  EXPECT_GT(latency_share(41 << 20, {8, 8}, h200), 0.2);
  EXPECT_EQ(bucket_bytes_for({8, 8}, {"slower to begin", {80e-6, 1 / 400e9}, {}, 0}), 64 << 20);
  EXPECT_EQ(bucket_bytes_for({8, 8}, {"slower to go on", {8e-6, 1 / 40e9}, {}, 0}), 25 << 20);
}

TEST(Forecast, SaysWhyBucketsAreAsLargeAsTheyAre) {
  VariableTable variables;
  variables.parameter("w", {64}, {});
  const auto reason = [&](PlanSettings settings) {
    return bucket_reason(
        make_plan({.variables = variables, .optimizer = *make_optimizer("sgd"), .settings = settings}).settings);
  };
  EXPECT_EQ(reason(on_ranks_with_gpus(8)),
            "buckets close at 42.0 MiB: latency is 20 % of an all-reduce among 8 ranks on 1 node by profile h200; the "
            "size at which it is 20 %, within 25.0 MiB to 64.0 MiB");
  PlanSettings asked = on_ranks_with_gpus(8);
  asked.bucket_bytes = 4 << 20;
  EXPECT_EQ(reason(asked),
            "buckets close at 4.0 MiB, as asked; latency is 72 % of an all-reduce among 8 ranks on 1 node by profile "
            "h200");
  EXPECT_EQ(reason({.mesh = {{"data", 2}}}),
            "buckets close at 4.0 MiB, which caches hold: ranks that share memory have no latency to hide");
  EXPECT_EQ(reason({.mesh = {{"data", 2}}, .bucket_bytes = 1 << 20}), "buckets close at 1.0 MiB, as asked");
}

TEST(Forecast, FitsAlphaAndBetaThatGiveBackTheTwoTimes) {
  for (const CollectiveKind kind : {CollectiveKind::all_reduce, CollectiveKind::reduce_scatter})
    for (const int64_t ranks : {2, 3, 8}) {
      const LinkCost link = fit_link(kind, ranks, 4096, 1e-5, 1 << 22, 2e-3);
      const MachineProfile fitted{"fitted", link, {}, 0};
      EXPECT_NEAR(collective_seconds(kind, 4096, {ranks, ranks}, fitted), 1e-5, 1e-12);
      EXPECT_NEAR(collective_seconds(kind, 1 << 22, {ranks, ranks}, fitted), 2e-3, 1e-12);
    }
  EXPECT_THROW(fit_link(CollectiveKind::all_reduce, 2, 4096, 2e-3, 1 << 22, 1e-3), Error);
}

}  // namespace
}  // namespace lockstep
