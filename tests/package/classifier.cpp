// SPDX-License-Identifier: Apache-2.0
// Learns which of the first four inputs is the largest; the ledger goes to classifier.ledger.
#include <lockstep/lockstep.h>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <random>

using namespace lockstep;

struct Net {
  VariableTable variables;
  Linear up{variables, "up", 16, 64}, down{variables, "down", 64, 4};
  Results operator()(Context& context, const Batch& batch) const {
    const Tensor scores = down(context, gelu(context, up(context, batch["inputs"])));
    return {.loss = softmax_cross_entropy(context, scores, batch["labels"]),
            .sums = {{"correct", count_correct(context, scores, batch["labels"])}}};
  }
};

int main(int argc, char** argv) {
  return run_program(argc, argv, [](Communicator& ranks) {
    Net net;
    Trainer trainer(ranks, net.variables, net,
                    {.optimizer = {.name = "adamw", .options = {{"learning_rate", 1e-2}}},
                     .schedule = "cosine(steps=120, warmup_steps=10)",
                     .plan = {.virtual_ranks = 8},
                     .seed = 1});
    std::ofstream ledger(ranks.rank() == 0 ? "classifier.ledger" : "/dev/null");
    std::mt19937 random(1);
    std::vector<float> inputs(64 * 16);
    std::vector<int32_t> labels(64);
    for (int step = 0; step < 120; ++step) {
      for (float& input : inputs) input = float(random() % 2049) / 1024 - 1;
      for (size_t i = 0; i < 64; ++i)
        labels[i] = int32_t(std::max_element(&inputs[i * 16], &inputs[i * 16 + 4]) - &inputs[i * 16]);
      const StepReport report = trainer.run(Batch({{"inputs", inputs, {16}}, {"labels", labels}}));
      ledger << trainer.ledger_line(report) << '\n';
      if (ranks.rank() == 0) std::printf("step %d loss %.4f correct %.0f\n", step, report.loss, report.sum("correct"));
    }
    return 0;
  });
}
