// SPDX-License-Identifier: Apache-2.0
// Ops over an axis of the mesh against the same computation on one rank: values, gradients, the bits of sums, what they
// enter into the log, and the memory that a rehearsal forecasts for them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "collectives/gradients/tree_sum.h"
#include "tests/runtime/ops/mesh_pass.h"
#include "tests/support/cases.h"
#include "tests/support/devices.h"

namespace lockstep {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// An op and what it gives on rank r, in double, for what all ranks give it. Shapes are [before, own, inner], where the
// op reaches along the second dimension.
struct OpOverAxis {
  const char* name;
  Tensor (*run)(Context&, const Tensor&);
  bool takes_a_part_each;  // whether the operand has a part for each rank
  std::vector<double> (*reference)(const std::vector<std::vector<double>>& inputs, int rank, int64_t before,
                                   int64_t part);
};

constexpr int64_t kBefore = 3, kOwn = 2, kInner = 5;

std::vector<double> sum_of(const std::vector<std::vector<double>>& inputs) {
  std::vector<double> sum(inputs[0].size());
  for (const auto& input : inputs)
    for (size_t i = 0; i < sum.size(); ++i) sum[i] += input[i];
  return sum;
}

const OpOverAxis kOps[] = {
    {"all_reduce", [](Context& c, const Tensor& x) { return all_reduce(c, x, "model"); }, false,
     [](const auto& inputs, int, int64_t, int64_t) { return sum_of(inputs); }},
    {"all_gather", [](Context& c, const Tensor& x) { return all_gather(c, x, 1, "model"); }, false,
     [](const auto& inputs, int, int64_t before, int64_t part) {
       std::vector<double> whole;
       for (int64_t b = 0; b < before; ++b)
         for (const auto& input : inputs)
           whole.insert(whole.end(), &input[size_t(b * part)], &input[size_t(b * part)] + part);
       return whole;
     }},
    {"reduce_scatter", [](Context& c, const Tensor& x) { return reduce_scatter(c, x, 1, "model"); }, true,
     [](const auto& inputs, int rank, int64_t before, int64_t part) {
       const std::vector<double> sum = sum_of(inputs);
       std::vector<double> own;
       for (int64_t b = 0; b < before; ++b) {
         const double* first = &sum[size_t((b * int64_t(inputs.size()) + rank) * part)];
         own.insert(own.end(), first, first + part);
       }
       return own;
     }},
};

// Values, and gradients of the sum of all ranks' losses by central differences of the reference.
void check_against_one_rank(const OpOverAxis& op, int64_t before, Communicator& ranks, Device device,
                            DeviceTransport transport) {
  SCOPED_TRACE(str(op.name, ", ", before, " before"));
  Pass pass(ranks, {{"data", 1}, {"model", ranks.size()}}, device, transport);
  const int64_t n = ranks.size(), in = op.takes_a_part_each ? kOwn * n : kOwn;
  std::vector<std::vector<double>> inputs, weights;
  for (int rank = 0; rank < n; ++rank) {
    const Values values = random_values(before * in * kInner, unsigned(rank));
    inputs.emplace_back(values.begin(), values.end());
  }
  const auto output = [&](int rank) { return op.reference(inputs, rank, before, kOwn * kInner); };
  for (int rank = 0; rank < n; ++rank) {
    const Values values = random_values(int64_t(output(rank).size()), unsigned(100 + rank));
    weights.emplace_back(values.begin(), values.end());
  }
  const auto loss = [&] {
    double sum = 0;
    for (int rank = 0; rank < n; ++rank) {
      const std::vector<double> y = output(rank);
      for (size_t i = 0; i < y.size(); ++i) sum += weights[size_t(rank)][i] * y[i];
    }
    return sum;
  };
  std::vector<double>& mine = inputs[size_t(ranks.rank())];
  Tensor x = pass.variable(Values(mine.begin(), mine.end()), {before, in, kInner});
  const Tensor y = add(pass.context(), op.run(pass.context(), x), op.run(pass.context(), x));
  const std::vector<double> expected = output(ranks.rank()), my_weights = weights[size_t(ranks.rank())];
  const Values value = pass.get(y);
  ASSERT_EQ(value.size(), expected.size());
  for (size_t i = 0; i < value.size(); ++i) ASSERT_NEAR(value[i], 2 * expected[i], 1e-5) << "element " << i;
  pass.backward(y, Values(my_weights.begin(), my_weights.end()));
  const Values gradient = pass.get(pass.gradient(0));
  for (size_t i = 0; i < mine.size(); ++i) {
    const double keep = std::exchange(mine[i], mine[i] + 0.5), up = loss();
    mine[i] = keep - 0.5;
    const double down = loss();
    mine[i] = keep;
    ASSERT_NEAR(gradient[i], 2 * (up - down), 1e-5) << "gradient of element " << i;
  }
}

void check_all_against_one_rank(Communicator& ranks, Device device, DeviceTransport transport) {
  for (const OpOverAxis& op : kOps)
    for (const int64_t before : {int64_t(1), kBefore}) check_against_one_rank(op, before, ranks, device, transport);
}

TEST(CollectiveOps, HaveValueAndGradientOfOneRank) { on_ranks_of_the_host(check_all_against_one_rank); }
TEST(CollectiveOps, HaveValueAndGradientOfOneRankOnAGpu) {
  LOCKSTEP_NEEDS_GPU();
  on_ranks_with_gpus(check_all_against_one_rank);
}

Values tree_sum(int ranks, const std::function<Values(int)>& values_of) {
  std::vector<LeafRange> leaves;
  std::vector<Values> values;
  std::vector<const float*> inputs;
  for (int rank = 0; rank < ranks; ++rank) {
    leaves.push_back({rank, rank + 1});
    values.push_back(values_of(rank));
  }
  for (const Values& each : values) inputs.push_back(each.data());
  Values sum(values[0].size());
  TreeSum({0, ranks}, leaves).run(sum.data(), inputs, int64_t(sum.size()), 1);
  return sum;
}

// The canonical tree over the ranks of the axis: the same bits on CPUs and GPUs, and however ranks lie on nodes.
void check_bits(Communicator& ranks, Device device, DeviceTransport transport) {
  const int n = ranks.size();
  for (const int64_t each : cases<int64_t>({77, 1, 20'000})) {
    Pass pass(ranks, {{"model", n}}, device, transport);
    Context& c = pass.context();
    const int64_t size = each * n;
    const auto of_rank = [&](int rank) { return random_values(size, unsigned(rank)); };
    const Values sum = tree_sum(n, of_rank), seed = random_values(size, unsigned(200 + ranks.rank()));
    const Values seeds = tree_sum(n, [&](int rank) { return random_values(size, unsigned(200 + rank)); });
    const auto own = [&](const Values& of) {
      return Values(of.begin() + each * ranks.rank(), of.begin() + each * (ranks.rank() + 1));
    };
    Tensor x = pass.variable(of_rank(ranks.rank()), {size}), part = pass.variable(Values(size_t(each)), {each});
    Tensor other = pass.variable(of_rank(ranks.rank()), {size});
    EXPECT_EQ(pass.get(all_reduce(c, x, "model")), sum);
    EXPECT_EQ(pass.get(reduce_scatter(c, x, 0, "model")), own(sum));
    pass.tape().clear();
    pass.tape().watch(part, 1, pass.gradient(1));
    const Tensor whole = all_gather(c, part, 0, "model");
    if (n > 1) {
      pass.backward(whole, seed);
      EXPECT_EQ(pass.get(pass.gradient(1)), own(seeds)) << "gradient of all_gather";
    }
    pass.tape().clear();
    pass.tape().watch(x, 0, pass.gradient(0));
    pass.tape().watch(other, 2, pass.gradient(2));
    const Tensor y = add(c, copy_to_axis(c, x, "model"), sum_over_axis(c, other, "model"));
    Values expected = of_rank(ranks.rank());
    for (size_t i = 0; i < expected.size(); ++i) expected[i] += sum[i];
    EXPECT_EQ(pass.get(y), expected);
    pass.backward(y, seed);
    EXPECT_EQ(pass.get(pass.gradient(0)), seeds) << "gradient of copy_to_axis";
    EXPECT_EQ(pass.get(pass.gradient(2)), seed) << "gradient of sum_over_axis";
  }
}

TEST(CollectiveOps, SumAlongTheCanonicalTree) { on_ranks_of_the_host(check_bits); }
TEST(CollectiveOps, SumAlongTheCanonicalTreeOnAGpu) {
  LOCKSTEP_NEEDS_GPU();
  on_ranks_with_gpus(check_bits);
}

TEST(CollectiveOps, CostNothingOnAnAxisOfOneRank) {
  run_ranks(2, [](Communicator& ranks) {
    Pass pass(ranks, {{"data", 2}, {"model", 1}});
    Context& c = pass.context();
    Tensor x = pass.variable(random_values(8, 1), {4, 2});
    const std::vector<Tensor> results{all_reduce(c, x, "model"), all_gather(c, x, 0, "model"),
                                      reduce_scatter(c, x, 1, "model"), copy_to_axis(c, x, "model"),
                                      sum_over_axis(c, x, "model")};
    for (const Tensor& y : results) EXPECT_EQ(View(y).data, View(x).data);
    EXPECT_EQ(pass.tape().nodes(), 0u);
    EXPECT_EQ(pass.pool().live(Purpose::activations).peak, 0);
    EXPECT_EQ(pass.mesh().group("model").host().log().number(), 0u);
  });
}

TEST(CollectiveOps, EnterEachSumAndGatherIntoTheLogOfTheirAxis) {
  run_ranks(4, [](Communicator& ranks) {
    Pass pass(ranks, {{"data", 2}, {"model", 2}});
    CallLog& log = pass.mesh().group("model").host().log();
    log.keep_records(true);
    Context& c = pass.context();
    Tensor x = pass.variable(random_values(6, 1), {6});
    const Tensor y = sum_over_axis(c, all_gather(c, copy_to_axis(c, x, "model"), 0, "model"), "model");
    pass.backward(y, Values(12, 1));
    const auto of = [](CollectiveKind kind, int64_t bytes) {
      return CollectiveRecord{kind, DType::f32, "model", bytes};
    };
    EXPECT_EQ(log.records(), (std::vector{of(CollectiveKind::all_gather, 48), of(CollectiveKind::all_reduce, 48),
                                          of(CollectiveKind::reduce_scatter, 48), of(CollectiveKind::all_reduce, 24)}));
    EXPECT_EQ(pass.mesh().group("data").host().log().number(), 0u);
  });
}

std::string error_of(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    return str(to_string(error.code()), ": ", error.what());
  }
  return "no error";
}

TEST(CollectiveOps, NameTheAxesThereAreAndWhatDoesNotFit) {
  run_ranks(2, [](Communicator& ranks) {
    Pass pass(ranks, {{"data", 1}, {"model", 2}});
    Context& c = pass.context();
    const Tensor x = pass.put(random_values(6, 1), {2, 3});
    EXPECT_THAT(error_of([&] { (void)all_reduce(c, x, "modle"); }),
                AllOf(HasSubstr("plan: "), HasSubstr("'data=1,model=2' has no axis 'modle'")));
    EXPECT_THAT(error_of([&] { (void)reduce_scatter(c, x, 1, "model"); }),
                AllOf(HasSubstr("dimension 1 of [2, 3]"), HasSubstr("2 parts"), HasSubstr("'model'")));
    EXPECT_THAT(error_of([&] { (void)all_gather(c, x, 2, "model"); }), HasSubstr("[2, 3] has no dimension 2"));
  });
}

// The same ops on memory that is only counted, on a machine without the other ranks: they send nothing.
TEST(CollectiveOps, NeedTheMemoryThatARehearsalForecasts) {
  const auto run = [](Context& c, Tape& tape, const Tensor& x, const Tensor& seed) {
    const Tensor gathered = all_gather(c, gelu(c, copy_to_axis(c, x, "model")), 1, "model");
    const Tensor y = reduce_scatter(c, all_reduce(c, sum_over_axis(c, gathered, "model"), "model"), 1, "model");
    tape.backward(c, y, seed, nullptr);
  };
  run_ranks(3, [&](Communicator& ranks) {
    Pass pass(ranks, {{"data", 1}, {"model", 3}});
    Tensor x = pass.variable(random_values(70, 1), {7, 10});
    run(pass.context(), pass.tape(), x, pass.put(random_values(70, 2), {7, 10}));

    Stream stream = Stream::rehearsal();
    Pool persistent = Pool::counted(stream.device()), counted = Pool::counted(stream.device());
    Tape tape;
    Context context(stream, counted, &tape);
    const std::vector<MeshGroup> groups{MeshGroup::rehearsal({"data", 1}), MeshGroup::rehearsal({"model", 3})};
    context.set_groups(groups);
    Tensor nowhere(persistent, DType::f32, {7, 10});
    const Tensor gradient(persistent, DType::f32, {7, 10}), seed(persistent, DType::f32, {7, 10});
    tape.watch(nowhere, 0, gradient);
    run(context, tape, nowhere, seed);
    EXPECT_GT(counted.live(Purpose::activations).peak, 0);
    EXPECT_EQ(counted.live(Purpose::activations).peak, pass.pool().live(Purpose::activations).peak);
  });
}

}  // namespace
}  // namespace lockstep
