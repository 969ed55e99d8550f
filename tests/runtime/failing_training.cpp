// SPDX-License-Identifier: Apache-2.0
// A program that trains on a GPU for each rank, as users write them, until a rank fails in the middle of a step: for
// failing_training.cmake.
#include <cmath>

#include "runtime/layers/linear.h"
#include "runtime/ops/ops.h"
#include "runtime/program.h"
#include "runtime/trainer.h"

namespace {

using namespace lockstep;

int train(Communicator& ranks, int argc, char** argv) {
  ranks.set_timeout(timeout_of(argc, argv));
  VariableTable variables;
  const Linear layer(variables, "layer", 64, 10);
  int parts = 0;
  const auto model = [&](Context& context, const Batch& batch) -> Results {
    const Tensor scores = layer(context, batch["inputs"]);
    // The first part of the fifth step has been computed, earlier steps and their sums may still be under way.
    constexpr int kPartsOfARank = 2, kSteps = 4;
    constexpr int64_t kTooMuch = int64_t(1) << 40;
    if (ranks.rank() == 1 && ++parts == kPartsOfARank * kSteps + 2) (void)context.empty({kTooMuch});
    return {.loss = softmax_cross_entropy(context, scores, batch["labels"]), .sums = {}};
  };
  TrainerOptions options{.plan = {.virtual_ranks = 2 * ranks.size()}, .device = "cuda"};
  Trainer trainer(ranks, variables, model, options);
  std::vector<float> inputs(64 * 64);
  for (size_t i = 0; i < inputs.size(); ++i) inputs[i] = std::sin(float(i));
  const std::vector<int32_t> labels(64, 3);
  const Batch batch({{"inputs", inputs, {64}}, {"labels", labels}});
  for (int step = 0; step < 1000; ++step) (void)trainer.run(batch);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return run_program(argc, argv, [&](Communicator& ranks) { return train(ranks, argc, argv); });
}
