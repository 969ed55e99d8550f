// SPDX-License-Identifier: Apache-2.0
// Fits a plane by squared errors, with columns of three dtypes; a second trainer goes on with what the first has saved.
#include <lockstep/lockstep.h>

#include <cstdio>
#include <fstream>

using namespace lockstep;

struct Net {
  VariableTable variables;
  Linear plane{variables, "plane", 3, 1};
  Results operator()(Context& context, const Batch& batch) const {
    const Tensor error = add(context, plane(context, batch["inputs"]), batch["negated_targets"]);
    const Tensor loss = reshape(context, multiply(context, error, error), batch["ids"].shape());
    return {.loss = loss, .sums = {{"squares", loss}}};
  }
};

int main(int argc, char** argv) {
  return run_program(argc, argv, [](Communicator& ranks) {
    std::ofstream ledger(ranks.rank() == 0 ? "regression.ledger" : "/dev/null");
    for (const int64_t end : {20, 40}) {
      Net net;
      Trainer trainer(
          ranks, net.variables, net,
          {.optimizer = {.name = "sgd", .options = {{"learning_rate", 0.2}}}, .plan = {.virtual_ranks = 6}});
      for (int64_t step = end == 20 ? 0 : trainer.resume("regression.safetensors"); step < end; ++step) {
        std::vector<float> x(45), negated(15);
        std::vector<int32_t> colours(15);
        std::vector<int64_t> ids(15);
        for (size_t i = 0; i < 45; ++i) x[i] = float((size_t(step) * 31 + i * 7) % 17) / 8 - 1;
        for (size_t i = 0; i < 15; ++i) negated[i] = -(1 + 2 * x[3 * i] - x[3 * i + 1] + x[3 * i + 2] / 2);
        const StepReport report = trainer.run(
            Batch({{"inputs", x, {3}}, {"negated_targets", negated, {1}}, {"colours", colours}, {"ids", ids}}));
        ledger << trainer.ledger_line(report) << '\n';
        if (ranks.rank() == 0) std::printf("loss %.5f sum %.5f\n", report.loss, report.sum("squares"));
      }
      trainer.save("regression.safetensors");
    }
    return 0;
  });
}
