// SPDX-License-Identifier: Apache-2.0
// Both families of language models: numbers of another program, learning, and the same bits however they are computed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <mutex>
#include <random>

#include "runtime/models/model_list.h"
#include "runtime/step/memory_rehearsal.h"
#include "runtime/trainer.h"
#include "tests/runtime/models/parity_case.h"
#include "tests/runtime/models/tiny_training.h"
#include "tests/support/devices.h"
#include "tests/support/ranks.h"

namespace lockstep {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(LanguageModel, HasTheNumbersOfTransformers) {
  for (const char* name : {"gpt", "llama"}) {
    const ParityCase parity(str(LOCKSTEP_SOURCE_DIR, "/tests/runtime/models/", name, ".safetensors"));
    for (const auto& [what, difference] : parity.differences()) EXPECT_LE(difference, 1e-5) << name << ": " << what;
    EXPECT_EQ(parity.greedy(), parity.expected_greedy()) << name;
  }
}

class EveryFamily : public testing::TestWithParam<TransformerFamily> {};

TEST_P(EveryFamily, Learns) {
  run_ranks(2, [](Communicator& ranks) {
    const TransformerSettings settings = tiny(GetParam());
    const Model model = make_transformer("tiny", settings);
    const Text text(12, 16, settings.vocab_size, false);
    Trainer trainer(ranks, model.variables, model.forward, kOptions);
    StepReport report = trainer.run(text.batch());
    EXPECT_NEAR(report.loss, std::log(29.0), 0.1) << "nothing is known at first";
    EXPECT_EQ(report.sum("tokens"), 12 * 16);
    for (int step = 0; step < 150; ++step) report = trainer.run(text.batch());
    EXPECT_LT(report.loss, 0.3);
    ranks.barrier();
  });
}

TEST_P(EveryFamily, TakesTheSameBitsHoweverItIsComputed) {
  TransformerSettings settings = tiny(GetParam());
  if (GetParam() == TransformerFamily::gpt) settings.dropout = 0.2f;
  std::vector<std::string> expected;
  run_ranks(1, [&](Communicator& ranks) { expected = ledger_of(ranks, settings, kOptions, 4); });
  ASSERT_EQ(expected.size(), 4u);
  ASSERT_NE(expected[0].substr(expected[0].find(' ')), expected[3].substr(expected[3].find(' ')));
  for (const int number : {1, 2, 3})
    for (const int threads : {1, 2}) {
      TransformerSettings other = settings;
      other.recompute = number + threads != 4;
      TrainerOptions options = kOptions;
      options.threads = threads;
      std::mutex mutex;
      run_ranks(number, [&](Communicator& ranks) {
        const std::vector<std::string> ledger = ledger_of(ranks, other, options, 4);
        const std::lock_guard lock(mutex);
        EXPECT_EQ(ledger, expected) << number << " ranks, " << threads << " threads, recompute " << other.recompute;
      });
    }
}

TEST_P(EveryFamily, FollowsTheSameLossInSeveralMicroBatches) {
  const TransformerSettings settings = tiny(GetParam());
  const Model model = make_transformer("tiny", settings);
  const Text text(12, 11, settings.vocab_size, true);
  const auto serial = make_serial_communicator();
  const auto losses = [&](int64_t accumulation) {
    Trainer trainer(*serial, model.variables, model.forward,
                    {.optimizer = {.name = "sgd", .options = {{"learning_rate", 0.5}}},
                     .plan = {.virtual_ranks = 2, .accumulation = accumulation},
                     .threads = 1});
    std::vector<float> all;
    for (int step = 0; step < 6; ++step) {
      const double before = trainer.evaluate(text.batch()).loss;
      all.push_back(trainer.run(text.batch()).loss);
      EXPECT_NEAR(all.back(), before, 1e-4) << "the mean over what is not masked";
    }
    return all;
  };
  const std::vector<float> whole = losses(1), cut = losses(3);
  EXPECT_NEAR(whole[0], std::log(29.0), 0.1);
  EXPECT_LT(whole[5], whole[0] - 0.02f);
  for (size_t step = 0; step < 6; ++step) EXPECT_NEAR(cut[step], whole[step], 2e-4f) << step;
}

TEST_P(EveryFamily, LearnsWithActivationsInBf16) {
  TrainerOptions options = kOptions;
  for (const char* precision : {"f32", "bf16"}) {
    options.precision = precision;
    std::vector<double> losses;
    for (const DType dtype : {DType::f32, DType::bf16}) {
      options.plan.activations = dtype;
      run_ranks(1, [&](Communicator& ranks) {
        const TransformerSettings settings = tiny(GetParam());
        const Model model = make_transformer("tiny", settings);
        const Text text(12, 16, settings.vocab_size, false);
        Trainer trainer(ranks, model.variables, model.forward, options);
        double loss = 0;
        for (int step = 0; step < 60; ++step) loss = trainer.run(text.batch()).loss;
        losses.push_back(loss);
      });
    }
    EXPECT_LT(losses[0], 2) << precision;
    EXPECT_NE(losses[0], losses[1]) << precision;
    EXPECT_NEAR(losses[0], losses[1], 0.2) << precision;
  }
}

// Sums of gradients in bf16 are rounded alike whether there is room to add in place or not.
TEST_P(EveryFamily, TakesTheSameBitsInBf16WhenBlocksAreRecomputed) {
  TransformerSettings settings = tiny(GetParam());
  TrainerOptions options = kOptions;
  options.plan.activations = DType::bf16;
  std::vector<std::string> kept, recomputed;
  run_ranks(1, [&](Communicator& ranks) {
    kept = ledger_of(ranks, settings, options, 2);
    settings.recompute = true;
    recomputed = ledger_of(ranks, settings, options, 2);
  });
  EXPECT_EQ(kept, recomputed);
}

// The bits of the CPU where products have them, and otherwise those of one rank with a GPU.
TEST_P(EveryFamily, TakesTheSameBitsOnAGpu) {
  LOCKSTEP_NEEDS_GPU();
  TransformerSettings settings = tiny(GetParam());
  if (GetParam() == TransformerFamily::gpt) settings.dropout = 0.2f;
  TrainerOptions options = kOptions, first = kOptions;
  options.device = "cuda";
  if (!products_have_equal_bits()) first.device = "cuda";
  for (const DType activations : {DType::f32, DType::bf16}) {
    options.plan.activations = first.plan.activations = activations;
    settings.recompute = false;
    std::vector<std::string> expected;
    run_ranks(1, [&](Communicator& ranks) { expected = ledger_of(ranks, settings, first, 2); });
    for (const bool graph : {false, true}) {
      options.graph = graph, settings.recompute = graph;
      std::mutex mutex;
      run_ranks(std::min(2, find_cuda_devices().count()), [&](Communicator& ranks) {
        const std::vector<std::string> ledger = ledger_of(ranks, settings, options, 2);
        const std::lock_guard lock(mutex);
        EXPECT_EQ(ledger, expected) << "recorded: " << graph << ", activations in " << to_string(activations);
      });
    }
  }
}

TEST_P(EveryFamily, ForgetsInsideOfRecomputedBlocks) {
  TransformerSettings settings = tiny(GetParam());
  settings.n_layer = 8;
  const auto peak = [&](bool recompute) {
    settings.recompute = recompute;
    const Model model = make_transformer("tiny", settings);
    return rehearse_part(model.variables, model.forward, {model.columns, 4}, 1).activations;
  };
  EXPECT_LT(2 * peak(true), peak(false));
}

TEST_P(EveryFamily, KeepsHalfTheBytesInBf16) {
  TransformerSettings settings = tiny(GetParam());
  settings.n_layer = 8, settings.n_embd = 32;
  const auto peak = [&](DType activations) {
    const Model model = make_transformer("tiny", settings);
    return double(rehearse_part(model.variables, model.forward, {model.columns, 4, 1, activations}, 1).activations);
  };
  // Statistics of norms and of attention stay f32.
  EXPECT_NEAR(peak(DType::bf16) / peak(DType::f32), 0.5, 0.05);
}

INSTANTIATE_TEST_SUITE_P(Families, EveryFamily, testing::Values(TransformerFamily::gpt, TransformerFamily::llama),
                         [](const auto& family) { return family.param == TransformerFamily::gpt ? "gpt" : "llama"; });

TEST(LanguageModel, NeedsTheMemoryThatItsRehearsalTells) {
  std::mt19937_64 random(5);
  const auto pick = [&](int64_t least, int64_t most) { return least + int64_t(random() % uint64_t(most - least + 1)); };
  for (int number = 0; number < 16; ++number) {
    TransformerSettings settings = tiny(number % 2 == 0 ? TransformerFamily::gpt : TransformerFamily::llama);
    const int64_t group = settings.family == TransformerFamily::llama ? pick(1, 2) : 1;
    settings.n_kv_head = pick(1, 2), settings.n_head = group * settings.n_kv_head;
    settings.n_embd = settings.n_head * 2 * pick(1, 20), settings.n_layer = pick(1, 3),
    settings.vocab_size = pick(5, 99);
    settings.block_size = pick(3, 130), settings.tied = pick(0, 1) == 1, settings.recompute = pick(0, 1) == 1;
    if (settings.family == TransformerFamily::gpt) settings.dropout = float(pick(0, 1)) * 0.1f;
    const Model model = make_transformer("random", settings);
    const int64_t samples = pick(1, 4), accumulation = pick(1, 2);
    const int threads = int(pick(1, 2));
    const std::string precision = number % 5 == 4 ? "bf16" : "f32";
    const DType activations = number % 4 < 2 ? DType::f32 : DType::bf16;
    const auto serial = make_serial_communicator();
    Trainer trainer(*serial, model.variables, model.forward,
                    {.optimizer = {.name = "sgd"},
                     .plan = {.activations = activations, .virtual_ranks = 2, .accumulation = accumulation},
                     .precision = precision,
                     .threads = threads});
    const Text text(2 * samples, settings.block_size, 5, false);
    (void)trainer.run(text.batch());
    VariableTable variables = model.variables;
    if (precision == "bf16") variables.narrow_weights(DType::bf16);
    const TransientMemory forecast =
        rehearse_part(variables, model.forward, {model.columns, samples, accumulation, activations}, threads);
    EXPECT_EQ(forecast.activations, trainer.pool().live(Purpose::activations).peak) << "model " << number;
    EXPECT_EQ(forecast.scratch, trainer.stream().scratch_bytes()) << "model " << number;
  }
}

TEST(LanguageModel, DropsWhileItTrains) {
  TransformerSettings settings = tiny(TransformerFamily::gpt);
  std::vector<std::string> without, with;
  run_ranks(1, [&](Communicator& ranks) {
    without = ledger_of(ranks, settings, kOptions, 1);
    settings.dropout = 0.2f;
    with = ledger_of(ranks, settings, kOptions, 1);
  });
  EXPECT_NE(without, with);
}

TEST(LanguageModel, LeavesBiasesAndGainsUndecayed) {
  VariableTable variables = make_transformer("tiny", tiny(TransformerFamily::gpt)).variables;
  const OptimizerSet set = make_optimizer_set(variables, {.name = "adamw"});
  EXPECT_EQ(set.group_of("transformer/h/0/mlp/c_fc/weight"), 0);
  EXPECT_EQ(set.group_of("transformer/wte/weight"), 0);
  for (const char* path : {"transformer/h/0/mlp/c_fc/bias", "transformer/h/1/ln_1/weight", "transformer/ln_f/bias"}) {
    EXPECT_EQ(set.group_of(path), 1) << path;
  }
  EXPECT_THAT(set.description(), HasSubstr("group without weight decay optimizer=adamw"));
  const OptimizerSet ruled =
      make_optimizer_set(variables, {.name = "adamw", .rules = {parse_group_rule(".*/bias => weight_decay=0.5")}});
  EXPECT_EQ(ruled.group_of("transformer/ln_f/bias"), 1) << "a rule comes first";
  EXPECT_EQ(ruled.group_of("transformer/ln_f/weight"), 2);
  EXPECT_EQ(make_optimizer_set(variables, {.name = "adam"}).groups(), 1) << "nothing decays";
}

TEST(LanguageModel, SaysWhichSettingDoesNotFit) {
  TransformerSettings settings = tiny(TransformerFamily::gpt);
  const auto make = [&] { make_transformer("tiny", settings); };
  settings.n_embd = 15;
  EXPECT_THAT(make, ThrowsMessage<Error>(HasSubstr("model.n_embd 15 is not divisible by model.n_head 2")));
  settings = tiny(TransformerFamily::llama);
  settings.n_head = 4, settings.n_kv_head = 3;
  EXPECT_THAT(make, ThrowsMessage<Error>(HasSubstr("model.n_kv_head 3 does not divide model.n_head 4")));
  settings = tiny(TransformerFamily::gpt);
  settings.n_kv_head = 1;
  EXPECT_THAT(make, ThrowsMessage<Error>(HasSubstr("model.n_kv_head 1: the gpt family expects all of")));
  settings = tiny(TransformerFamily::gpt);
  settings.n_layer = 0;
  EXPECT_THAT(make, ThrowsMessage<Error>(HasSubstr("model.n_layer: expected at least 1, got 0")));
  settings = tiny(TransformerFamily::gpt);
  const Model model = make_transformer("tiny", settings);
  const auto forward = [&] {
    rehearse_part(model.variables, model.forward, {{{"tokens", DType::i32, {17}}, {"targets", DType::i32, {17}}}, 2},
                  1);
  };
  EXPECT_THAT(forward, ThrowsMessage<Error>(HasSubstr("up to block_size 16], got i32 [2, 17]")));
}

TEST(LanguageModel, ShipsSizesThatPeopleKnow) {
  EXPECT_EQ(make_model("gpt2-124m", {}).variables.parameter_count(), 124'439'808 + (50'304 - 50'257) * 768);
  const int64_t mini = make_model("gpt-mini", {}).variables.parameter_count();
  EXPECT_GT(mini, 10'000'000);
  EXPECT_LT(mini, 13'000'000);
}

}  // namespace
}  // namespace lockstep
