// SPDX-License-Identifier: Apache-2.0
#include "tools/text/tokenize.h"

#include <chrono>
#include <filesystem>
#include <functional>
#include <optional>
#include <utility>

#include "kernels/device/check.h"
#include "runtime/data/tokens/token_dataset.h"
#include "runtime/text/encoder.h"
#include "tools/text/byte_progress.h"
#include "tools/text/text_file.h"

namespace lockstep {
namespace {

struct Input {
  std::string path;
  int64_t bytes = 0;
  int64_t split = 0;  // where what is left out for validation begins
};

std::vector<Input> look_at(const TokenizeRun& run) {
  std::vector<Input> inputs;
  for (const std::string& path : expand_patterns(run.inputs)) {
    const int64_t bytes = content_bytes(path);
    inputs.push_back({path, bytes, bytes});
  }
  return inputs;
}

int64_t bytes_of(const std::vector<Input>& inputs) {
  int64_t sum = 0;
  for (const Input& input : inputs) sum += input.bytes;
  return sum;
}

void check_outputs(const std::vector<Input>& inputs, const EncodeOptions& options) {
  std::error_code ignored;
  const auto same = [&](const std::string& a, const std::string& b) {
    return a == b || std::filesystem::equivalent(a, b, ignored);
  };
  check(options.validation.empty() || !same(options.output, options.validation), ErrorCode::usage,
        [&] { return str("--output and --validation both name '", options.output, "'; name two files"); });
  for (const Input& input : inputs)
    for (const std::string& output : {options.output, options.validation})
      check(output.empty() || !same(input.path, output), ErrorCode::usage, [&] {
        return str("'", output, "' is an input, which would be written over; name another file for the output");
      });
}

// Encodes a range of a file, and adds to what has been encoded.
class PartEncoder {
 public:
  PartEncoder(const Tokenizer& tokenizer, Encoder& encoder, const EncodeOptions& options, const std::string& path,
              int64_t shard_tokens)
      : encoder_(encoder),
        special_(options.special),
        end_of_text_(options.end_of_text ? tokenizer.end_of_text() : std::nullopt),
        writer_({.path = path,
                 .vocabulary = tokenizer.vocabulary(),
                 .tokenizer_hash = tokenizer.hash(),
                 .shard_tokens = shard_tokens}) {}

  void add(const std::string& path, const ByteRange& range, const std::function<void(int64_t)>& progress) {
    TextFile file(path, range);
    for (TextPiece piece; file.next(piece);) {
      tokens_.clear();
      encoder_.encode(piece.texts, special_, piece.documents_end ? end_of_text_ : std::nullopt, tokens_);
      writer_.append(tokens_);
      part_.tokens += int64_t(tokens_.size());
      part_.empty_documents += piece.empty_documents;
      if (piece.documents_end) part_.documents += int64_t(piece.texts.size());
      progress(part_.bytes + file.bytes_read());
    }
    part_.bytes += range.bytes();
  }

  EncodedPart finish() {
    part_.files = writer_.finish();
    return std::move(part_);
  }

 private:
  Encoder& encoder_;
  SpecialTokens special_;
  std::optional<int32_t> end_of_text_;
  TokenWriter writer_;
  EncodedPart part_;
  std::vector<int32_t> tokens_;
};

}  // namespace

Tokenizer train_tokenizer(const TokenizeRun& run, const BpeTraining& training) {
  const std::vector<Input> inputs = look_at(run);
  WordCounts counts(training.rule, run.threads);
  ByteProgress progress("counting words", bytes_of(inputs), run.terminal ? stderr : nullptr);
  int64_t before = 0;
  for (const Input& input : inputs) {
    TextFile file(input.path, {0, input.bytes});
    for (TextPiece piece; file.next(piece); progress.at(before + file.bytes_read()))
      for (const std::string_view text : piece.texts) counts.add(text);
    before += input.bytes;
  }
  return Tokenizer(train_bpe(counts.words(), training), "the trained tokenizer");
}

EncodeReport encode_files(const TokenizeRun& run, const Tokenizer& tokenizer, const EncodeOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  std::vector<Input> inputs = look_at(run);
  check_outputs(inputs, options);
  check(!options.end_of_text || tokenizer.end_of_text(), ErrorCode::usage, [] {
    return str(
        "this tokenizer names no end-of-text token to put behind each document; encode without it: "
        "--no-end-of-text");
  });
  check(options.shard_tokens > 0 || bytes_of(inputs) <= TokenWriter::kMostTokens, ErrorCode::usage, [&] {
    return str("the text has ", bytes_of(inputs),
               " bytes, whose tokens may be too many for one file, which counts up to ", TokenWriter::kMostTokens,
               "; write several: --shard-tokens 100000000");
  });
  const bool split = !options.validation.empty();
  if (split)
    for (Input& input : inputs) input.split = find_split(input.path, input.bytes, options.validation_share);
  Encoder encoder(tokenizer, run.threads);
  PartEncoder output(tokenizer, encoder, options, options.output, options.shard_tokens);
  std::optional<PartEncoder> validation;
  if (split) validation.emplace(tokenizer, encoder, options, options.validation, 0);
  ByteProgress progress("encoding", bytes_of(inputs), run.terminal ? stderr : nullptr);
  for (const Input& input : inputs)
    output.add(input.path, {0, input.split}, [&](int64_t bytes) { progress.at(bytes); });
  if (split)
    for (const Input& input : inputs) validation->add(input.path, {input.split, input.bytes}, [](int64_t) {});
  EncodeReport report;
  report.output = output.finish();
  if (split) report.validation = validation->finish();
  report.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return report;
}

}  // namespace lockstep
