// SPDX-License-Identifier: Apache-2.0
// Text that a language model goes on with, token by token.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "runtime/models/transformer.h"

namespace lockstep {

struct Sampling {
  double temperature = 1;  // logits are divided by it; 0: the most likely token, always
  int64_t top_k = 0;       // only the so many most likely tokens; 0: all
  double top_p = 1;        // only the most likely tokens that have this probability together
  uint64_t seed = 1;
};
// Error(usage) names an option that is out of range.
void check_sampling(const Sampling& sampling);

// A token by its logits: a function of them, of the options and of the number of the draw, so a text is repeated by its
// seed. Ties go to the lower token; logits of minus infinity are never taken. top_k comes before top_p, of which
// probabilities are those at the temperature. Error(numbers) for logits that are not finite otherwise.
int32_t choose_token(std::span<const float> logits, const Sampling& sampling, uint64_t draw);

// Holds a text and what the model has kept of it. Computes with the stream's threads on the CPU; model, values, stream
// and pool must outlive it.
//
// Note [Logits of a text that goes on]. Products with one row may add up in another order than products with many, so
// logits differ from those of the whole text by rounding: by at most 1e-5 of the greatest of them, as a test holds.
class TextGenerator {
 public:
  TextGenerator(const Model& model, const TransformerSettings& settings, std::span<const Tensor> values, Stream& stream,
                Pool& pool);

  // Error(usage) for a prompt that is empty, or longer than the context (block_size), and for tokens beyond the
  // vocabulary.
  void check_prompt(std::span<const int32_t> prompt) const;
  // Begins a text. Throws what check_prompt() throws.
  void begin(std::span<const int32_t> prompt);
  // Adds a token. Where the context is full, its older half is forgotten: the younger half is read again as a text.
  void add(int32_t token);
  // The logits of the token that follows, [vocab_size]. They may be changed, and live until the text changes.
  std::span<float> logits() { return logits_; }

 private:
  void read(std::span<const int32_t> tokens);

  const Model& model_;
  TransformerSettings settings_;
  Context context_;
  KeyValueCache cache_;
  std::vector<int32_t> text_;  // what the cache has
  std::vector<float> logits_;
};

}  // namespace lockstep
