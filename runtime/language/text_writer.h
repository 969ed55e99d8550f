// SPDX-License-Identifier: Apache-2.0
// Writes texts with a language model: from a prompt to the end that the model finds, in whole characters.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "runtime/language/text_generator.h"
#include "runtime/text/tokenizer.h"

namespace lockstep {

class TextWriter {
 public:
  // `ends` are tokens that end a text, besides the tokenizer's own. The arguments must outlive the writer.
  TextWriter(TextGenerator& generator, const Tokenizer& tokenizer, std::vector<int32_t> ends = {});

  // The tokens of a prompt; an empty one begins behind the end of another text. Error(usage) where that cannot be.
  std::vector<int32_t> tokens_of(const std::string& prompt) const;

  // Gives `tell` the prompt, and up to `tokens` more tokens as they come. Error(usage) for a prompt that does not fit
  // the model, before anything is told. Draws are numbered on from text to text.
  using Tell = std::function<void(const std::string&)>;
  void go_on(const std::string& prompt, int64_t tokens, const Sampling& sampling, const Tell& tell);

 private:
  std::span<const float> allowed_logits();

  TextGenerator& generator_;
  const Tokenizer& tokenizer_;
  std::vector<int32_t> ends_;
  uint64_t draws_ = 0;
};

}  // namespace lockstep
