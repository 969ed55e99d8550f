// SPDX-License-Identifier: Apache-2.0
#include "runtime/language/text_writer.h"

#include <algorithm>
#include <limits>
#include <optional>
#include <utility>

namespace lockstep {

TextWriter::TextWriter(TextGenerator& generator, const Tokenizer& tokenizer, std::vector<int32_t> ends)
    : generator_(generator), tokenizer_(tokenizer), ends_(std::move(ends)) {
  if (const std::optional<int32_t> end = tokenizer.end_of_text()) ends_.push_back(*end);
}

std::vector<int32_t> TextWriter::tokens_of(const std::string& prompt) const {
  std::vector<int32_t> tokens = tokenizer_.encode(prompt);
  if (!tokens.empty()) return tokens;
  check(!ends_.empty(), ErrorCode::usage,
        "an empty prompt needs a tokenizer with an end-of-text token, behind which a text begins; give a prompt");
  return {ends_.back()};
}

void TextWriter::go_on(const std::string& prompt, int64_t tokens, const Sampling& sampling, const Tell& tell) {
  generator_.begin(tokens_of(prompt));
  tell(prompt);
  StreamDecoder decoder(tokenizer_);
  for (int64_t count = 0; count < tokens; ++count) {
    const int32_t token = choose_token(allowed_logits(), sampling, draws_++);
    if (std::ranges::find(ends_, token) != ends_.end()) break;
    tell(decoder.next(token));
    if (count + 1 < tokens) generator_.add(token);
  }
  tell(decoder.rest());
}

// Rows that pad the vocabulary have no text, and neither have numbers that the tokenizer leaves out.
std::span<const float> TextWriter::allowed_logits() {
  const std::span<float> logits = generator_.logits();
  for (size_t token = 0; token < logits.size(); ++token)
    if (token >= tokenizer_.parts().tokens.size() || tokenizer_.parts().tokens[token].empty())
      logits[token] = -std::numeric_limits<float>::infinity();
  return logits;
}

}  // namespace lockstep
