// SPDX-License-Identifier: Apache-2.0
// Tensors that are updated whole and kept in bf16: rounded by the numbers of their own elements.
#include "runtime/step/tensor_updates.h"

#include <gtest/gtest.h>

#include "collectives/host/thread_ranks.h"
#include "kernels/stochastic_rounding.h"
#include "runtime/plan/planner.h"

namespace lockstep {
namespace {

TEST(TensorUpdates, RoundStochasticallyByTheNumbersOfTheirOwnElements) {
  constexpr int64_t kElements = 40 * 3;
  VariableTable variables;
  for (const char* path : {"a", "b"}) variables.parameter(path, {40, 3}, Initializer::constant(1));
  variables.narrow_weights(DType::bf16);
  const auto lamb = make_optimizer("lamb", {{"learning_rate", 1e-3}});
  const Plan plan = make_plan({.variables = variables, .optimizer = *lamb, .settings = {.stochastic_rounding = true}});
  run_thread_ranks(1, [&](Communicator& communicator) {
    Stream stream = Stream::cpu();
    Pool pool(stream.device());
    VariableStore store(plan, variables, *lamb, communicator, pool, 1);
    const std::vector<int32_t> both = {0, 1};
    TensorUpdates updates(store, *lamb, both, pool);
    std::vector<double> constants(size_t(lamb->constants_bytes() / 8 + 1));
    StepScalars decision;
    int64_t iteration = 6;
    double rate = 1e-3;
    const StepState state{&iteration, &rate, nullptr, &decision, constants.data(), /*seed=*/9};
    lamb->prepare(stream, state, {}, nullptr);
    EXPECT_EQ(decision.rounding_key, rounding_key(9, 7));

    std::vector<float> wide(kElements, 1.0f), gradient(kElements);
    for (const int32_t v : both) {
      for (int64_t i = 0; i < kElements; ++i) gradient[size_t(i)] = float(i % 7) - 3;
      updates.run(stream, *lamb, state, v, {gradient.data(), DType::f32, DeviceKind::cpu, Shape{40, 3}}, {});
    }
    // The same update in f32, then the noise of each variable's granules: four of "a", then those of "b".
    std::vector<std::vector<float>> slots(2, std::vector<float>(kElements));
    const auto view = [](std::vector<float>& x) { return View{x.data(), DType::f32, DeviceKind::cpu, Shape{40, 3}}; };
    const std::vector<View> views = {view(slots[0]), view(slots[1])};
    std::vector<double> scratch(size_t(lamb->scratch_bytes({40, 3}) / 8 + 32));
    for (int64_t i = 0; i < kElements; ++i) gradient[size_t(i)] = float(i % 7) - 3;
    lamb->update(stream, state,
                 {.param = view(wide),
                  .grad = view(gradient),
                  .slots = views,
                  .scratch = reinterpret_cast<std::byte*>(scratch.data())});
    for (const int32_t v : both) {
      const GranuleNoise noise{&decision.rounding_key, v * 4, nullptr, nullptr};
      const ConstView kept = store.memory().view(plan.variables[size_t(v)]);
      int moved = 0;
      for (int64_t i = 0; i < kElements; ++i) {
        const float value = float(data<bfloat16>(kept)[i]);
        ASSERT_EQ(value, round_stochastically(wide[size_t(i)], noise.load(i))) << "variable " << v << ", element " << i;
        moved += value != 1;
      }
      EXPECT_GT(moved, 5);
      EXPECT_LT(moved, kElements) << "or nothing was drawn";
    }
  });
}

}  // namespace
}  // namespace lockstep
