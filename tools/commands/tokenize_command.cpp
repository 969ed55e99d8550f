// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "runtime/data/tokens/token_dataset.h"
#include "runtime/files/atomic_file.h"
#include "runtime/files/terminal_line.h"
#include "runtime/text/unicode.h"
#include "tools/commands/command_line.h"
#include "tools/text/tokenize.h"
#include "tools/training/training_run.h"

namespace lockstep {
namespace {

struct TokenizeOptions {
  std::vector<std::string> inputs;
  std::string tokenizer;
  std::string output;
  BpeTraining training;
  EncodeOptions encode;
  int64_t vocabulary = 0;
  int64_t threads = 0;
  int64_t first = 0, tokens = 0;  // of decode; 0 tokens: all
  bool no_end_of_text = false;
};

std::string tokens_hash(uint64_t hash) { return fmt::format("{:016x}", hash); }

TokenizeRun run_of(const TokenizeOptions& options, Communicator& communicator) {
  check_threads(options.threads);
  return {.inputs = options.inputs,
          .threads = options.threads > 0 ? int(options.threads) : default_threads(communicator),
          .terminal = is_terminal_for_lines(stderr)};
}

void run_tokenize_train(TokenizeOptions options, Communicator& communicator) {
  constexpr int64_t kMostEntries = 1 << 24;
  check(options.vocabulary >= 1 && options.vocabulary <= kMostEntries, ErrorCode::usage,
        [&] { return str("--vocabulary: expected 1 to ", kMostEntries, " entries, got ", options.vocabulary); });
  options.training.vocabulary = int32_t(options.vocabulary);
  if (communicator.rank() != 0) return;
  const Tokenizer tokenizer = train_tokenizer(run_of(options, communicator), options.training);
  tokenizer.save(options.output);
  fmt::print("{}: vocabulary {}, {} merges, rule {}, hash {}\n", options.output, tokenizer.vocabulary(),
             tokenizer.parts().merges.size(), to_string(options.training.rule), tokens_hash(tokenizer.hash()));
}

void print_part(const char* name, const EncodedPart& part) {
  for (const WrittenTokens& file : part.files)
    fmt::print("{}: {} tokens, hash {}\n", file.path, file.tokens, tokens_hash(file.content_hash));
  fmt::print("{}: {} bytes of text, {} documents, {} tokens, {:.3f} bytes per token\n", name, part.bytes,
             part.documents, part.tokens, double(part.bytes) / double(std::max<int64_t>(part.tokens, 1)));
  if (part.empty_documents > 0)
    fmt::print(stderr, "lockstep: warning: {} empty documents were passed over\n", part.empty_documents);
}

void run_tokenize_encode(TokenizeOptions options, Communicator& communicator) {
  const double share = options.encode.validation_share;
  check(share > 0 && share < 1, ErrorCode::usage,
        [&] { return str("--validation-share: expected a share between 0 and 1, got ", share); });
  if (communicator.rank() != 0) return;
  options.encode.output = options.output;
  options.encode.end_of_text = !options.no_end_of_text;
  const Tokenizer tokenizer = Tokenizer::load(options.tokenizer);
  const EncodeReport report = encode_files(run_of(options, communicator), tokenizer, options.encode);
  const bool split = !options.encode.validation.empty();
  print_part(split ? "training" : "all", report.output);
  if (split) print_part("validation", report.validation);
  const int64_t bytes = report.output.bytes + report.validation.bytes;
  fmt::print("{:.1f} MB in {:.1f} s, {:.1f} MB/s\n", double(bytes) / 1e6, report.seconds,
             double(bytes) / 1e6 / report.seconds);
}

// Writes to a file that is there whole or not at all, or to standard output.
class TextOutput {
 public:
  explicit TextOutput(const std::string& path) {
    if (!path.empty()) file_.emplace(path);
  }
  void write(std::string_view text) {
    if (file_)
      file_->write(text.data(), int64_t(text.size()));
    else
      std::fwrite(text.data(), 1, text.size(), stdout);
  }
  void finish() {
    if (file_) file_->commit();
  }

 private:
  std::optional<AtomicFile> file_;
};

void run_tokenize_decode(const TokenizeOptions& options, Communicator& communicator) {
  check(options.first >= 0 && options.tokens >= 0, ErrorCode::usage,
        [&] { return str("--first and --tokens: expected 0 or more, got ", options.first, " and ", options.tokens); });
  if (communicator.rank() != 0) return;
  const Tokenizer tokenizer = Tokenizer::load(options.tokenizer);
  const TokenDataset data(options.inputs, 1);
  data.check_tokenizer(tokenizer.hash(), tokenizer.vocabulary());
  data.scan(tokenizer.vocabulary());
  const int64_t all = data.tokens();
  check(options.first < all, ErrorCode::usage,
        [&] { return str("--first: expected less than the ", all, " tokens that there are, got ", options.first); });
  int64_t skip = options.first;
  int64_t left = options.tokens > 0 ? std::min(options.tokens, all - skip) : all - skip;
  TextOutput output(options.output);
  std::vector<int32_t> tokens;
  for (const TokenFile& file : data.files()) {
    int64_t at = std::min(skip, file.tokens());
    skip -= at;
    while (at < file.tokens() && left > 0) {
      constexpr int64_t kPiece = 1 << 18;
      tokens.resize(size_t(std::min({kPiece, file.tokens() - at, left})));
      file.read(at, tokens);
      output.write(tokenizer.decode(tokens));
      at += int64_t(tokens.size());
      left -= int64_t(tokens.size());
    }
  }
  output.finish();
}

void print_tokenizer(const std::string& path) {
  const Tokenizer tokenizer = Tokenizer::load(path);
  fmt::print("{}: tokenizer, vocabulary {}, {} merges, rule {} (Unicode {}), hash {}\n", path, tokenizer.vocabulary(),
             tokenizer.parts().merges.size(), to_string(tokenizer.parts().rule), unicode_version(),
             tokens_hash(tokenizer.hash()));
  for (const AddedToken& token : tokenizer.parts().added)
    fmt::print("  {} {}{}\n", token.id, nlohmann::json(token.text).dump(),
               tokenizer.end_of_text() == token.id ? ", the end of a text" : "");
}

void print_tokens(const std::string& path) {
  const TokenDataset data({path}, 1);
  const TokenScan scan = data.scan(int64_t(1) << 31);
  for (const TokenFile& file : data.files()) {
    fmt::print("{}: {}, {} tokens", file.path(), to_string(file.format()), file.tokens());
    if (const auto& header = file.header())
      fmt::print(", vocabulary {}, tokenizer {}, hash {}", header->vocabulary, tokens_hash(header->tokenizer_hash),
                 tokens_hash(header->content_hash));
    fmt::print("\n");
  }
  fmt::print("  {} tokens, the highest is {}\n", scan.tokens, scan.highest);
}

bool names_tokenizer(const std::string& path) {
  std::error_code ignored;
  if (std::filesystem::is_directory(path, ignored)) return true;
  return path.ends_with(".json") || path.ends_with("merges.txt") || path.ends_with(".bpe");
}

void run_tokenize_info(const TokenizeOptions& options, Communicator& communicator) {
  if (communicator.rank() != 0) return;
  for (const std::string& path : options.inputs) names_tokenizer(path) ? print_tokenizer(path) : print_tokens(path);
}

void add_inputs(CLI::App& command, TokenizeOptions& options, const char* what) {
  command.add_option("files", options.inputs, what)->required();
}

void add_text_inputs(CLI::App& command, TokenizeOptions& options) {
  add_inputs(command, options,
             "text, or JSON lines (.jsonl) with a document in each \"text\"; either may be .gz; globs");
  command.add_option("--threads", options.threads, "use so many (0: the cores that it may use)")->capture_default_str();
}

}  // namespace

void add_tokenize_command(CLI::App& app, Command& chosen) {
  auto options = std::make_shared<TokenizeOptions>();
  CLI::App& tokenize = *app.add_subcommand("tokenize", "Turn text into the tokens of a language model, and back");
  tokenize.require_subcommand(1);

  CLI::App& train = *tokenize.add_subcommand("train", "Learn a byte-level BPE tokenizer from text");
  add_text_inputs(train, *options);
  train.add_option("--vocabulary", options->vocabulary, "learn so many tokens, with 256 bytes and the special ones")
      ->required();
  train.add_option("--output", options->output, "write tokenizer.json into this folder")->required();
  add_choice(train, "--rule", options->training.rule, kPieceRules,
             "cut text into words as this model does: gpt2 | gpt2-digits | llama3");
  train.add_option("--special", options->training.special, "have these special tokens; the first ends a text")
      ->capture_default_str();
  train.callback(
      [&chosen, options] { chosen = [options](Communicator& c) { return run_tokenize_train(*options, c), 0; }; });

  CLI::App& encode = *tokenize.add_subcommand("encode", "Write the tokens of text into files of llm.c's format");
  add_text_inputs(encode, *options);
  encode.add_option("--tokenizer", options->tokenizer, "encode with the tokenizer in this folder or file")->required();
  encode.add_option("--output", options->output, "write this file")->required();
  encode.add_option("--validation", options->encode.validation, "write the last share of each input here instead");
  encode.add_option("--validation-share", options->encode.validation_share, "leave out this share of each input")
      ->capture_default_str();
  encode
      .add_option("--shard-tokens", options->encode.shard_tokens,
                  "write files of so many tokens, OUTPUT_000000.bin and on (0: one file)")
      ->capture_default_str();
  encode.add_flag("--no-end-of-text", options->no_end_of_text, "put no end-of-text token behind each document");
  encode.add_flag_callback(
      "--special-tokens", [options] { options->encode.special = SpecialTokens::recognised; },
      "take the names of special tokens in the text for these tokens");
  encode.callback(
      [&chosen, options] { chosen = [options](Communicator& c) { return run_tokenize_encode(*options, c), 0; }; });

  CLI::App& decode = *tokenize.add_subcommand("decode", "Print the text of files of tokens");
  add_inputs(decode, *options, "files of tokens, or globs");
  decode.add_option("--tokenizer", options->tokenizer, "decode with the tokenizer in this folder or file")->required();
  decode.add_option("--output", options->output, "write to this file (default: standard output)");
  decode.add_option("--first", options->first, "begin with this token")->capture_default_str();
  decode.add_option("--tokens", options->tokens, "decode so many (0: all)")->capture_default_str();
  decode.callback(
      [&chosen, options] { chosen = [options](Communicator& c) { return run_tokenize_decode(*options, c), 0; }; });

  CLI::App& info = *tokenize.add_subcommand("info", "Say what tokenizers and files of tokens hold");
  add_inputs(info, *options, "folders or files of tokenizers, files of tokens");
  info.callback(
      [&chosen, options] { chosen = [options](Communicator& c) { return run_tokenize_info(*options, c), 0; }; });
}

}  // namespace lockstep
