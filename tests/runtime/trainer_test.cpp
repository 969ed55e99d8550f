// SPDX-License-Identifier: Apache-2.0
// The trainer as programs of one's own use it: batches and sums by name, any loss, the same bits on any number of
// ranks.
#include "runtime/trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <mutex>

#include "runtime/data/sample_order.h"
#include "runtime/layers/linear.h"
#include "runtime/layers/metrics.h"
#include "runtime/ops/ops.h"
#include "tests/support/devices.h"
#include "tests/support/files.h"
#include "tests/support/ranks.h"

namespace lockstep {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr int64_t kRows = 26;

struct Net {
  VariableTable variables;
  Linear up{variables, "up", 6, 16}, down{variables, "down", 16, 3};

  Results operator()(Context& context, const Batch& batch) const {
    const Tensor scores = down(context, dropout(context, gelu(context, up(context, batch["inputs"])), 0.2f));
    return {.loss = softmax_cross_entropy(context, scores, batch["labels"]),
            .sums = {{"correct", count_correct(context, scores, batch["labels"])}}};
  }
};

struct Data {
  std::vector<float> inputs;
  std::vector<int32_t> labels;
  explicit Data(int64_t rows = kRows) {
    for (int64_t i = 0; i < rows * 6; ++i) inputs.push_back(std::sin(float(i * i % 89)));
    for (int64_t i = 0; i < rows; ++i) labels.push_back(int32_t(inputs[size_t(i * 6)] > 0 ? 1 + i % 2 : 0));
  }
  Batch batch() const { return Batch({{"inputs", inputs, {6}}, {"labels", labels}}); }
};

const TrainerOptions kOptions{.optimizer = {.name = "adamw", .options = {{"learning_rate", 0.01}}},
                              .schedule = "cosine(steps=20, warmup_steps=4)",
                              .plan = {.virtual_ranks = 5},
                              .clip = {.global_clipnorm = 0.5},
                              .seed = 7};

struct Taken {
  std::vector<std::string> ledger;
  double correct = 0, loss = 0;
};

Taken train(Communicator& ranks, int64_t steps, const TrainerOptions& options = kOptions) {
  const Net net;
  const Data data;
  Trainer trainer(ranks, net.variables, net, options);
  Taken taken;
  for (int64_t step = 0; step < steps; ++step) {
    const StepReport report = trainer.run(data.batch());
    taken.ledger.push_back(trainer.ledger_line(report));
    taken.correct = report.sum("correct");
  }
  const Evaluation evaluation = trainer.evaluate(data.batch());
  EXPECT_EQ(evaluation.samples, kRows);
  EXPECT_EQ(evaluation.sums.at(0).name, "correct");
  taken.loss = evaluation.loss;
  EXPECT_EQ(trainer.step(), steps);
  ranks.barrier();
  return taken;
}

TEST(Trainer, TakesTheSameBitsOnAnyRanks) {
  Taken one;
  run_ranks(1, [&](Communicator& ranks) { one = train(ranks, 8); });
  EXPECT_EQ(one.ledger.size(), 8u);
  // More ranks than parts: some compute nothing, and know the sums by name all the same.
  for (const int number : {2, 3, 5, 7}) {
    std::mutex mutex;
    run_ranks(number, [&](Communicator& ranks) {
      const Taken taken = train(ranks, 8);
      const std::lock_guard lock(mutex);
      EXPECT_EQ(taken.ledger, one.ledger) << number << " ranks";
      EXPECT_EQ(taken.correct, one.correct);
      EXPECT_EQ(taken.loss, one.loss);
    });
  }
}

TEST(Trainer, LearnsAndCountsByName) {
  run_ranks(2, [](Communicator& ranks) {
    TrainerOptions options = kOptions;
    options.schedule = "";
    const Taken early = train(ranks, 1, options), late = train(ranks, 60, options);
    EXPECT_LT(late.loss, 0.5 * early.loss);
    EXPECT_GT(late.correct, 20);
  });
}

TEST(Trainer, FollowsALossOfOnesOwn) {
  run_ranks(2, [](Communicator& ranks) {
    VariableTable variables;
    const Linear line(variables, "line", 1, 1);
    const auto model = [line](Context& context, const Batch& batch) -> Results {
      const Tensor error = add(context, line(context, batch["x"]), batch["minus_y"]);
      const Tensor squares = reshape(context, multiply(context, error, error), {batch.samples()});
      return {.loss = squares, .sums = {}};
    };
    Trainer trainer(ranks, variables, model,
                    {.optimizer = {.name = "sgd", .options = {{"learning_rate", 0.2}}}, .plan = {.virtual_ranks = 4}});
    std::vector<float> x, minus_y;
    for (int i = 0; i < 16; ++i) x.push_back(float(i) / 8 - 1), minus_y.push_back(-(3 * x.back() - 2));
    const Batch batch({{"x", x, {1}}, {"minus_y", minus_y, {1}}});
    StepReport report;
    for (int step = 0; step < 100; ++step) report = trainer.run(batch);
    EXPECT_LT(report.loss, 1e-6f);
    EXPECT_TRUE(report.sums.empty());
    ranks.barrier();
  });
}

TEST(Trainer, GoesOnFromItsFileOnAnotherNumberOfRanks) {
  const TemporaryFolder folder;
  const std::string path = folder / "state.safetensors";
  std::vector<std::string> whole, second;
  run_ranks(2, [&](Communicator& ranks) {
    const Taken taken = train(ranks, 6);
    if (ranks.rank() == 0) whole = taken.ledger;
  });
  const auto part = [&](int number, bool saves) {
    run_ranks(number, [&](Communicator& ranks) {
      const Net net;
      const Data data;
      Trainer trainer(ranks, net.variables, net, kOptions);
      for (int64_t step = saves ? 0 : trainer.resume(path); step < (saves ? 3 : 6); ++step) {
        const std::string line = trainer.ledger_line(trainer.run(data.batch()));
        if (ranks.rank() == 0 && !saves) second.push_back(line);
      }
      if (saves) trainer.save(path);
      ranks.barrier();
    });
  };
  part(2, true);
  part(5, false);
  EXPECT_EQ(second, std::vector<std::string>(whole.begin() + 3, whole.end()));
}

std::string error_of(ErrorCode code, const std::function<void(Communicator&)>& body) {
  try {
    run_ranks(1, body);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    return error.what();
  }
  return "no error";
}

TEST(Trainer, NamesWhatIsWrongWithBatches) {
  const Data data, shorter(5);
  EXPECT_THAT(error_of(ErrorCode::usage,
                       [&](Communicator& ranks) {
                         const Net net;
                         Trainer trainer(ranks, net.variables, net);
                         (void)trainer.run(Batch({{"input", data.inputs, {6}}, {"labels", data.labels}}));
                       }),
              AllOf(HasSubstr("no column 'inputs'"), HasSubstr("input, labels")));
  EXPECT_THAT(error_of(ErrorCode::usage,
                       [&](Communicator&) {
                         Batch({{"inputs", data.inputs, {6}}, {"labels", shorter.labels}});
                       }),
              HasSubstr("column 'labels' has 5 samples, expected 26"));
  EXPECT_THAT(error_of(ErrorCode::usage,
                       [&](Communicator&) {
                         Batch({{"inputs", data.inputs, {7}}});
                       }),
              HasSubstr("no whole number of samples of shape [7]"));
  EXPECT_THAT(error_of(ErrorCode::usage,
                       [&](Communicator&) {
                         Batch({{"x", data.inputs}, {"x", data.inputs}});
                       }),
              HasSubstr("two columns of a batch are called 'x'"));
  const float alone = 1;
  EXPECT_THAT(error_of(ErrorCode::usage,
                       [&](Communicator&) {
                         Batch({{"x", ConstView{&alone, DType::f32, DeviceKind::cpu, {}}}});
                       }),
              HasSubstr("column 'x' is a single value"));
}

TEST(Trainer, NamesWhatIsWrongWithSums) {
  const Data data;
  const auto returning = [&](size_t sums) {
    return error_of(ErrorCode::usage, [&](Communicator& ranks) {
      const Net net;
      const auto model = [&](Context& context, const Batch& batch) {
        Results results = net(context, batch);
        while (results.sums.size() < sums) results.sums.push_back(results.sums[0]);
        return results;
      };
      Trainer trainer(ranks, net.variables, model, {.plan = {.sums = 2}});
      (void)trainer.run(data.batch()).sum("answers");
    });
  };
  EXPECT_THAT(returning(3), HasSubstr("returns 3 named sums, but the plan has room for 2"));
  EXPECT_THAT(returning(1), AllOf(HasSubstr("no sum 'answers'"), HasSubstr("correct")));
}

TEST(Trainer, RefusesRanksWithOtherOptions) {
  EXPECT_THAT(
      [] {
        run_ranks(2, [](Communicator& ranks) {
          const Net net;
          TrainerOptions options = kOptions;
          // The last of 17 digits.
          if (ranks.rank() == 1) options.clip.global_clipnorm = std::nextafter(options.clip.global_clipnorm, 1);
          const Trainer trainer(ranks, net.variables, net, options);
        });
      },
      testing::ThrowsMessage<Error>(AllOf(HasSubstr("clipping"), HasSubstr("0.5000000000000001"))));
}

TEST(Trainer, NamesOptionsThatCannotBe) {
  const auto with = [](TrainerOptions options, ErrorCode code = ErrorCode::usage) {
    return error_of(code, [&](Communicator& ranks) {
      const Net net;
      const Trainer trainer(ranks, net.variables, net, options);
    });
  };
  EXPECT_THAT(with({.optimizer = {.name = "adamm"}}), HasSubstr("did you mean 'adam'"));
  EXPECT_THAT(with({.precision = "bf17"}), HasSubstr("bf16"));
  EXPECT_THAT(with({.freeze = {"up/weigth"}}), HasSubstr("up/weight"));
  EXPECT_THAT(with({.device = "tpu"}), HasSubstr("tpu"));
  EXPECT_THAT(with({.plan = {.mesh = {{"data", 3}}}}, ErrorCode::plan), HasSubstr("3"));
}

// A larger batch takes the place of memory that recorded steps of smaller ones hold.
TEST(TrainerOnAGpu, RecordsStepsAnewWhereBatchesGrow) {
  LOCKSTEP_NEEDS_GPU();
  const auto ledger = [](const char* device, bool graph) {
    TrainerOptions options = kOptions;
    options.plan.virtual_ranks = 1;
    options.device = device;
    options.graph = graph;
    const Net net;
    const auto serial = make_serial_communicator();
    Trainer trainer(*serial, net.variables, net, options);
    std::vector<std::string> lines;
    for (const int64_t rows : {4, 4, 4, 200, 4, 4, 200, 200, 4}) {
      const Data data(rows);
      lines.push_back(trainer.ledger_line(trainer.run(data.batch())));
    }
    return lines;
  };
  const std::vector<std::string> expected = ledger("cuda", false);
  EXPECT_EQ(ledger("cuda", true), expected);
  if (products_have_equal_bits()) {
    EXPECT_EQ(ledger("cpu", false), expected);
  }
}

}  // namespace
}  // namespace lockstep
