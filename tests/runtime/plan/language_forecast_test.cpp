// SPDX-License-Identifier: Apache-2.0
// Forecasts of language models whose settings nobody has chosen: every byte that stays, the peak of activations and all
// collectives are as planned.
#include <gtest/gtest.h>

#include <random>

#include "collectives/host/thread_ranks.h"
#include "tools/planning/plan_verify.h"
#include "tools/planning/planning.h"

namespace lockstep {
namespace {

class RandomRun {
 public:
  explicit RandomRun(uint32_t seed) : generator_(seed) {
    TransformerSettings& s = settings_;
    s.family = draw(2) == 0 ? TransformerFamily::gpt : TransformerFamily::llama;
    const int64_t groups = s.family == TransformerFamily::llama ? 1 + draw(3) : 1;
    s.n_kv_head = 1 + draw(3);
    s.n_head = s.n_kv_head * groups;
    s.n_embd = s.n_head * 2 * (1 + draw(10));
    s.n_inner = draw(2) * (1 + draw(70));
    s.n_layer = 1 + draw(3);
    s.vocab_size = 2 + draw(400);
    s.block_size = 1 + draw(40);
    s.tied = draw(2) == 0;
    s.recompute = draw(2) == 0;
    options_.model.name = "gpt-nano";
    options_.model.changes = {[settings = s](TransformerSettings& shipped) { shipped = settings; }};
    options_.model.sequence = 1 + draw(s.block_size);
    options_.model.dropout = draw(2) * 0.1;
    options_.model.optimizer = draw(2) == 0 ? "adamw" : "sgd";
    options_.ranks = 1 + draw(3);
    options_.plan.workload.batch = options_.ranks * (1 + draw(6));
    options_.plan.accumulation = 1 + draw(3);
    options_.plan.bucket_bytes = int64_t(1024) << draw(12);
  }
  const ForecastOptions& options() const { return options_; }

 private:
  int64_t draw(int64_t below) { return int64_t(generator_() % uint64_t(below)); }

  std::mt19937 generator_;
  TransformerSettings settings_;
  ForecastOptions options_;
};

void verify_runs(uint32_t first, uint32_t end) {
  for (uint32_t seed = first; seed < end; ++seed) {
    const Planning planning(RandomRun(seed).options());
    testing::internal::CaptureStdout();
    std::string problem;
    try {
      run_thread_ranks(int(planning.input().settings.ranks()),
                       [&](Communicator& communicator) { verify_plan(planning, communicator, 2); });
    } catch (const Error& error) {
      problem = error.what();
    }
    const std::string table = testing::internal::GetCapturedStdout();
    EXPECT_EQ(problem, "") << "seed " << seed << "\n" << table;
  }
}

TEST(ForecastOfLanguageModels, IsExact) { verify_runs(0, 8); }
TEST(ForecastOfManyLanguageModels, IsExact) { verify_runs(8, 100); }

}  // namespace
}  // namespace lockstep
