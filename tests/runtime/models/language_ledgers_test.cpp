// SPDX-License-Identifier: Apache-2.0
// Ledgers of language models with eight virtual ranks: one for each setting that decides numbers, however ranks,
// threads and recomputation are chosen.
#include <gtest/gtest.h>

#include <mutex>
#include <set>

#include "tests/runtime/models/tiny_training.h"
#include "tests/support/ranks.h"

namespace lockstep {
namespace {

struct Numbers {
  const char* precision;
  DType activations;
  int64_t accumulation;
  float dropout;
};
const Numbers kNumbers[] = {{"f32", DType::f32, 1, 0.2f},   {"f32", DType::f32, 2, 0},
                            {"f32", DType::bf16, 1, 0.2f},  {"bf16", DType::f32, 1, 0},
                            {"bf16", DType::bf16, 2, 0.2f}, {"bf16-stochastic", DType::bf16, 1, 0.2f}};

std::string text_of(const Numbers& n) {
  return str("precision ", n.precision, ", activations ", to_string(n.activations), ", micro-batches ", n.accumulation,
             ", dropout ", n.dropout);
}

class LanguageLedgers : public testing::TestWithParam<TransformerFamily> {};

TEST_P(LanguageLedgers, AreOneForEveryNumberOfRanks) {
  constexpr int64_t kSteps = 10;
  TransformerSettings settings = tiny(GetParam());
  TrainerOptions options = kOptions;
  options.plan.virtual_ranks = 8;
  std::set<std::string> all;
  for (const Numbers& numbers : kNumbers) {
    // Models of the llama family have no dropout.
    settings.dropout = GetParam() == TransformerFamily::gpt ? numbers.dropout : 0;
    options.precision = numbers.precision;
    options.plan.activations = numbers.activations;
    options.plan.accumulation = numbers.accumulation;
    std::vector<std::string> expected;
    for (const int ranks_of_run : {1, 2, 3, 4, 5, 8})
      for (const int threads : {1, 2}) {
        if (ranks_of_run * threads > 8) continue;  // they would only wait for each other
        options.threads = threads;
        settings.recompute = (ranks_of_run + threads) % 2 == 1;
        std::mutex mutex;
        run_ranks(ranks_of_run, [&](Communicator& ranks) {
          const std::vector<std::string> ledger = ledger_of(ranks, settings, options, kSteps);
          const std::lock_guard lock(mutex);
          if (expected.empty()) expected = ledger;
          EXPECT_EQ(ledger, expected) << text_of(numbers) << ": " << ranks_of_run << " ranks, " << threads
                                      << " threads, recompute " << settings.recompute;
        });
      }
    EXPECT_TRUE(all.insert(expected.back()).second) << text_of(numbers) << " has the numbers of another setting";
  }
}

INSTANTIATE_TEST_SUITE_P(Families, LanguageLedgers, testing::Values(TransformerFamily::gpt, TransformerFamily::llama),
                         [](const auto& family) { return family.param == TransformerFamily::gpt ? "gpt" : "llama"; });

}  // namespace
}  // namespace lockstep
