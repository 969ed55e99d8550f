// SPDX-License-Identifier: Apache-2.0
// For tokenizers_test.py: encodes byte strings that come on standard input, each behind its length (u32), and writes
// the tokens of each behind their number (u32, then i32). usage: encode_strings TOKENIZER THREADS ROUNDS Says on
// standard error what the fastest round took in seconds, without reading and writing.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <vector>

#include "kernels/device/check.h"
#include "runtime/text/encoder.h"

namespace lockstep {
namespace {

std::vector<std::string> read_strings() {
  std::vector<std::string> strings;
  uint32_t bytes = 0;
  while (std::fread(&bytes, sizeof bytes, 1, stdin) == 1) {
    std::string text(bytes, '\0');
    check(std::fread(text.data(), 1, bytes, stdin) == bytes, ErrorCode::data, "the input ends within a string");
    strings.push_back(std::move(text));
  }
  return strings;
}

// Behind each string stands a number that is no token.
int32_t end_of(const Tokenizer& tokenizer) { return tokenizer.vocabulary(); }

void write_tokens(const std::vector<int32_t>& tokens, const std::vector<std::string>& strings,
                  const Tokenizer& tokenizer) {
  auto begin = tokens.begin();
  for (const std::string& string : strings) {
    const auto end = std::find(begin, tokens.end(), end_of(tokenizer));
    const std::vector<int32_t> own(begin, end);
    check(tokenizer.decode(own) == string, ErrorCode::internal, "decoding does not give the bytes back");
    check(tokenizer.encode(string) == own, ErrorCode::internal, "encoding by itself gives other tokens");
    const uint32_t count = uint32_t(own.size());
    std::fwrite(&count, sizeof count, 1, stdout);
    std::fwrite(own.data(), sizeof(int32_t), own.size(), stdout);
    begin = std::next(end);
  }
}

void run(char** arguments) {
  const Tokenizer tokenizer = Tokenizer::load(arguments[1]);
  const std::vector<std::string> strings = read_strings();
  const std::vector<std::string_view> texts(strings.begin(), strings.end());
  double best = 1e9;
  std::vector<int32_t> tokens;
  for (int round = 0; round < std::atoi(arguments[3]); ++round) {
    tokens.clear();
    const auto start = std::chrono::steady_clock::now();
    Encoder encoder(tokenizer, std::atoi(arguments[2]));
    encoder.encode(texts, SpecialTokens::as_text, end_of(tokenizer), tokens);
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  write_tokens(tokens, strings, tokenizer);
  std::fprintf(stderr, "%.6f\n", best);
}

}  // namespace
}  // namespace lockstep

int main(int count, char** arguments) {
  if (count != 4) {
    std::fprintf(stderr, "usage: encode_strings TOKENIZER THREADS ROUNDS\n");
    return 2;
  }
  try {
    lockstep::run(arguments);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "encode_strings: %s\n", error.what());
    return 1;
  }
}
