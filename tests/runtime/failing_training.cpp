// SPDX-License-Identifier: Apache-2.0
// A program that trains on a GPU for each rank, as users write them, until a rank runs out of memory in the middle of a
// backward pass, while another one is late: for failing_training.cmake.
#include <cmath>
#include <thread>

#include "kernels/pointwise.h"
#include "runtime/layers/linear.h"
#include "runtime/ops/ops.h"
#include "runtime/program.h"
#include "runtime/trainer.h"

namespace {

using namespace lockstep;

// A relu whose gradient wants more memory than there is, if it `fails`.
Tensor greedy_relu(Call call, const Tensor& x, bool fails) {
  constexpr int64_t kTooMuch = int64_t(1) << 40;
  Tensor y = call.context.empty_like(x);
  call.context.launch(Unary<Relu>{.out = y, .in = x});
  call.record("greedy_relu", {x.position()}, y, [x, fails](Context& context, Gradients& grad) {
    if (fails) (void)context.empty({kTooMuch});
    context.launch(UnaryGrad<Relu>{.d_in = grad.in(0), .d_out = grad.out(), .in = x});
  });
  return y;
}

int train(Communicator& ranks, int argc, char** argv) {
  ranks.set_timeout(timeout_of(argc, argv));
  VariableTable variables;
  const Linear lower(variables, "lower", 64, 32), upper(variables, "upper", 32, 10);
  int steps = 0;
  const auto model = [&](Context& context, const Batch& batch) -> Results {
    // In the fifth step the sums of the upper layer's gradients are on their way from rank 1, for which rank 0 is late.
    const bool is_last = ++steps == 5;
    if (is_last && ranks.rank() == 0) std::this_thread::sleep_for(std::chrono::seconds(100));
    const Tensor hidden = greedy_relu(context, lower(context, batch["inputs"]), is_last && ranks.rank() == 1);
    return {.loss = softmax_cross_entropy(context, upper(context, hidden), batch["labels"]), .sums = {}};
  };
  TrainerOptions options{.plan = {.virtual_ranks = ranks.size(), .bucket_bytes = 64}, .device = "cuda"};
  Trainer trainer(ranks, variables, model, options);
  std::vector<float> inputs(64 * 66);
  for (size_t i = 0; i < inputs.size(); ++i) inputs[i] = std::sin(float(i));
  const std::vector<int32_t> labels(66, 3);
  const Batch batch({{"inputs", inputs, {64}}, {"labels", labels}});
  for (int step = 0; step < 1000; ++step) (void)trainer.run(batch);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  return run_program(argc, argv, [&](Communicator& ranks) { return train(ranks, argc, argv); });
}
