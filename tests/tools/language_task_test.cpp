// SPDX-License-Identifier: Apache-2.0
// What a language model is judged by: the mean over the tokens that there are, and the bytes that they stand for.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <optional>

#include "collectives/host/thread_ranks.h"
#include "runtime/data/tokens/token_writer.h"
#include "runtime/trainer.h"
#include "tests/runtime/text/text_support.h"
#include "tests/support/files.h"
#include "tools/training/tasks/training_task.h"

namespace lockstep {
namespace {

using testing::HasSubstr;

constexpr int64_t kSequence = 4, kSamples = 5;
constexpr TransformerSettings kModel{.vocab_size = 320, .block_size = 4, .n_layer = 1, .n_head = 1, .n_embd = 8};

// Samples that are alike, of tokens of one byte, two, one and none.
class LanguageTask : public testing::Test {
 protected:
  LanguageTask() {
    tokenizer.save(folder / "tokenizer");
    const std::vector<int32_t> sample = {tokenizer.encode("a")[0], tokenizer.encode("aa")[0], tokenizer.encode("b")[0],
                                         *tokenizer.end_of_text()};
    write("same.bin", kSamples, sample);
    write("other.bin", kSamples, {sample[1], sample[0], sample[2], sample[3]});
  }
  void write(const char* name, int64_t samples, const std::vector<int32_t>& sample) {
    TokenWriter writer(
        {.path = folder / name, .vocabulary = tokenizer.vocabulary(), .tokenizer_hash = tokenizer.hash()});
    for (int64_t i = 0; i < samples; ++i) writer.append(sample);
    writer.append(std::span(sample).first(1));
    (void)writer.finish();
  }
  std::unique_ptr<TrainingTask> task(Communicator& ranks, int64_t eval_tokens = 0) const {
    return make_language_task(
        ranks, kModel, kSequence,
        {.validation = {folder / "same.bin"}, .tokenizer = folder / "tokenizer", .eval_tokens = eval_tokens});
  }

  TemporaryFolder folder;
  Tokenizer tokenizer = trained_on("aa aa", 258);
};

TEST_F(LanguageTask, JudgesByTheTokensThatThereAreAndTheirBytes) {
  const Model model = make_transformer("small", kModel);
  for (const int count : {1, 3})
    run_thread_ranks(count, [&](Communicator& ranks) {
      Trainer trainer(ranks, model.variables, model.forward, {.threads = 1});
      const JudgedModel judged{ranks, trainer.stream(), trainer.pool(), model, trainer.variables().values()};
      const std::optional<Score> scored = task(ranks)->score(judged), less = task(ranks, kSequence)->score(judged);
      ASSERT_TRUE(scored && less);
      const Score &all = *scored, &one = *less;
      EXPECT_EQ(all.counts, "tokens=20 bytes=20") << "the end of a text has none";
      EXPECT_EQ(one.counts, "tokens=4 bytes=4");
      const double loss = all.numbers["validation_loss"];
      EXPECT_NEAR(loss, double(one.numbers["validation_loss"]), 1e-5) << "samples are alike";
      EXPECT_NEAR(loss, std::log(double(kModel.vocab_size)), 0.1) << "nothing was learned";
      EXPECT_NEAR(double(all.numbers["perplexity"]), std::exp(loss), 1e-6 * std::exp(loss));
      EXPECT_NEAR(double(all.numbers["bits_per_byte"]), loss / std::log(2.0), 1e-9);
    });
}

TEST_F(LanguageTask, TellsItsDataApart) {
  const auto serial = make_serial_communicator();
  const auto hash = [&](const char* training, const char* validation) {
    return make_language_task(*serial, kModel, kSequence,
                              {.files = {folder / training}, .validation = {folder / validation}})
        ->content_hash();
  };
  EXPECT_EQ(hash("same.bin", "other.bin"), hash("same.bin", "other.bin"));
  EXPECT_NE(hash("same.bin", "other.bin"), hash("other.bin", "same.bin"));
}

TEST_F(LanguageTask, RefusesTokensThatItsTokenizerHasNot) {
  const std::vector<uint16_t> tokens = {1, 2, 3, 4, 258};
  write_file(folder / "raw.bin", {reinterpret_cast<const char*>(tokens.data()), tokens.size() * sizeof(uint16_t)});
  const auto serial = make_serial_communicator();
  const auto error = [&](const std::string& tokenizer_path) {
    return error_of([&] {
      make_language_task(*serial, kModel, kSequence, {.files = {folder / "raw.bin"}, .tokenizer = tokenizer_path});
    });
  };
  EXPECT_EQ(error(""), "") << "the model has room for it";
  EXPECT_THAT(error(folder / "tokenizer"),
              HasSubstr("raw.bin' has the token 258 at position 4, expected less than 258"));
}

}  // namespace
}  // namespace lockstep
