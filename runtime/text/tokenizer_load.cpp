// SPDX-License-Identifier: Apache-2.0
// Which files make up a tokenizer.
#include <algorithm>
#include <filesystem>
#include <utility>

#include "kernels/device/check.h"
#include "runtime/files/atomic_file.h"
#include "runtime/files/file_descriptor.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/tokenizer_files.h"

namespace lockstep {
namespace {

namespace fs = std::filesystem;

// Vocabularies of a million tokens are far smaller.
constexpr int64_t kMostBytes = int64_t(1) << 30;

// The names of the two files that belong together; either may have the same word in front of it, "gpt2-vocab.json".
constexpr std::pair<std::string_view, std::string_view> kPairs[] = {{"vocab.json", "merges.txt"},
                                                                    {"encoder.json", "vocab.bpe"}};

std::string read_whole(const std::string& path) {
  const ReadableFile file = open_to_read(path, Links::follow);
  check(file.bytes <= kMostBytes, ErrorCode::data,
        [&] { return str("'", path, "' has ", file.bytes, " bytes, too many for a file of a tokenizer"); });
  std::string text(size_t(file.bytes), '\0');
  const int64_t got = read_at(file.descriptor, path, text.data(), file.bytes, 0);
  check_unchanged(file, path);
  text.resize(size_t(got));
  return text;
}

std::string in_quotes(const std::string& path) { return "'" + path + "'"; }

bool exists(const std::string& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

Tokenizer load_pair(const std::string& vocabulary, const std::string& merges) {
  return Tokenizer(
      parts_of_vocabulary(read_whole(vocabulary), in_quotes(vocabulary), read_whole(merges), in_quotes(merges)),
      in_quotes(vocabulary));
}

Tokenizer load_json(const std::string& path) {
  TokenizerParts parts = parts_of_tokenizer_json(read_whole(path), in_quotes(path));
  const std::string config = fs::path(path).replace_filename("tokenizer_config.json");
  if (exists(config)) {
    const std::string end_of_text = end_of_text_of_config(read_whole(config), in_quotes(config));
    if (!end_of_text.empty()) parts.end_of_text = end_of_text;
  }
  return Tokenizer(std::move(parts), in_quotes(path));
}

Tokenizer load_folder(const std::string& folder) {
  if (const std::string json = folder + "/tokenizer.json"; exists(json)) return load_json(json);
  for (const auto& [vocabulary, merges] : kPairs)
    if (exists(str(folder, "/", vocabulary))) return load_pair(str(folder, "/", vocabulary), str(folder, "/", merges));
  fail(ErrorCode::file, str("'", folder,
                            "' holds no tokenizer: expected tokenizer.json, vocab.json and merges.txt, or "
                            "encoder.json and vocab.bpe; make one with `lockstep tokenize train`"));
}

}  // namespace

bool holds_tokenizer(const std::string& path) {
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) return false;
  return exists(path + "/tokenizer.json") ||
         std::ranges::any_of(kPairs, [&](const auto& pair) { return exists(str(path, "/", pair.first)); });
}

Tokenizer Tokenizer::load(const std::string& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return load_folder(path);
  if (path.ends_with(".tiktoken") || path.ends_with("tokenizer.model"))
    return Tokenizer(parts_of_ranks(read_whole(path), in_quotes(path)), in_quotes(path));
  for (const auto& [vocabulary, merges] : kPairs) {
    if (path.ends_with(vocabulary))
      return load_pair(path, path.substr(0, path.size() - vocabulary.size()) + std::string(merges));
    if (path.ends_with(merges))
      return load_pair(path.substr(0, path.size() - merges.size()) + std::string(vocabulary), path);
  }
  return load_json(path);
}

void Tokenizer::save(const std::string& folder) const {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) fail_file("make the folder", folder, error.value());
  AtomicFile tokenizer(folder + "/tokenizer.json"), config(folder + "/tokenizer_config.json");
  const std::string text = tokenizer_json(parts_), config_text = tokenizer_config_json(parts_);
  tokenizer.write(text.data(), int64_t(text.size()));
  config.write(config_text.data(), int64_t(config_text.size()));
  config.commit();
  tokenizer.commit();
}

}  // namespace lockstep
