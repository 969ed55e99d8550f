// SPDX-License-Identifier: Apache-2.0
#include "runtime/step/gradient_norms.h"

#include <gtest/gtest.h>

#include <cmath>

#include "collectives/gradients/host_gradient_reducer.h"
#include "optimizers/optimizer.h"
#include "runtime/plan/owners.h"
#include "runtime/plan/planner.h"
#include "tests/support/ranks.h"

namespace lockstep {
namespace {

// Sums of squares by variable, of gradients whose squares do not add up exactly. There are so many variables that the
// threads of a rank share the chunks, and with buckets of their own most chunks lie in slices of several ranks.
std::vector<double> square_sums(Communicator& ranks, int64_t bucket_bytes, int threads = 1) {
  constexpr int kVariables = 44;
  VariableTable variables;
  std::vector<Variable> trained;
  for (int v = 0; v < kVariables; ++v) {
    const Shape shape = v == 0 ? Shape{2, 5003} : v == 1 ? Shape{0} : v == 2 ? Shape{} : Shape{5003};
    trained.push_back(variables.parameter(str("v", v), shape, Initializer::constant(0)));
  }
  const Plan plan = make_plan({.variables = variables,
                               .optimizer = *make_optimizer("sgd"),
                               .settings = {.mesh = {{"data", ranks.size()}}, .bucket_bytes = bucket_bytes}});
  Stream stream = Stream::cpu(threads);
  Pool pool(stream.device());
  HostGradientReducer reducer(ranks, gradient_buckets(plan, ranks.node_of()), plan.arena_elements, ReduceMode::tree, 1);
  if (reducer.first_part() == reducer.last_part()) {
    reducer.without_parts(stream);
  } else {
    const View arena = reducer.begin_part(0, stream);
    for (const Variable v : trained) {
      const PlannedVariable& variable = plan.variables[size_t(v.index)];
      for (int64_t i = 0; i < variable.shape.size(); ++i)
        data<float>(arena)[variable.offset + i] = std::sin(float(i % 997) + float(v.index));
      reducer.gradient_ready(size_t(variable.bucket), stream);
    }
  }
  reducer.wait(stream);
  GradientNorms norms(ranks, plan, pool, stream);
  norms.measure(reducer, stream);
  return {norms.squares(), norms.squares() + kVariables};
}

TEST(GradientNorms, HaveTheSameBitsOnAnyRanksNodesThreadsAndBuckets) {
  std::vector<double> one;
  run_ranks(1, [&](Communicator& ranks) { one = square_sums(ranks, 1); });
  EXPECT_NEAR(one[0], 5003, 50) << "half of 10,006 elements, in three chunks";
  on_every_group([&](Communicator& ranks) {
    EXPECT_EQ(square_sums(ranks, 1), one);
    EXPECT_EQ(square_sums(ranks, 1, 3), one);
    EXPECT_EQ(square_sums(ranks, 1 << 20), one);
  });
}

}  // namespace
}  // namespace lockstep
