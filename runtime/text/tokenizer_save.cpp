// SPDX-License-Identifier: Apache-2.0
// The files that Hugging Face's libraries read. They are put together as text: their parser keeps the order of keys, in
// which people expect tokens to be sorted by number.
#include <nlohmann/json.hpp>

#include "kernels/device/check.h"
#include "runtime/text/byte_symbols.h"
#include "runtime/text/tokenizer_files.h"

namespace lockstep {
namespace {

std::string json_text(const std::string& text) { return nlohmann::json(text).dump(); }

constexpr const char* kByteLevel =
    R"({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": )";
// As Llama 3 spells its rule, as text of JSON.
constexpr const char* kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+)";

std::string pre_tokenizer(PieceRule rule) {
  const std::string by_itself = str(kByteLevel, "true}");
  if (rule == PieceRule::gpt2) return by_itself;
  const std::string first = rule == PieceRule::gpt2_digits
                                ? std::string(R"({"type": "Digits", "individual_digits": true})")
                                : str(R"({"type": "Split", "pattern": {"Regex": ")", kLlama3,
                                      R"("}, "behavior": "Isolated", "invert": false})");
  const std::string second = rule == PieceRule::gpt2_digits ? by_itself : str(kByteLevel, "false}");
  return str(R"({"type": "Sequence", "pretokenizers": [)", first, ", ", second, "]}");
}

}  // namespace

std::string tokenizer_json(const TokenizerParts& parts) {
  std::vector<std::string> spelled;
  for (const std::string& token : parts.tokens) spelled.push_back(symbols_of(token));
  std::string text = R"({
  "version": "1.0",
  "truncation": null,
  "padding": null,
  "added_tokens": [)";
  std::vector<const AddedToken*> added(parts.tokens.size());
  for (const AddedToken& token : parts.added) {
    added[size_t(token.id)] = &token;
    spelled[size_t(token.id)] = token.text;
  }
  const char* comma = "\n";
  for (const AddedToken* token : added) {
    if (!token) continue;
    text += str(comma, "    {\"id\": ", token->id, ", \"content\": ", json_text(token->text),
                R"(, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": )",
                token->special ? "true}" : "false}");
    comma = ",\n";
  }
  text += str("\n  ],\n  \"normalizer\": null,\n  \"pre_tokenizer\": ", pre_tokenizer(parts.rule),
              ",\n  \"post_processor\": ", kByteLevel, "true},\n  \"decoder\": ", kByteLevel, "true},\n");
  text += str(R"(  "model": {
    "type": "BPE",
    "dropout": null,
    "unk_token": null,
    "continuing_subword_prefix": null,
    "end_of_word_suffix": null,
    "fuse_unk": false,
    "byte_fallback": false,
    "ignore_merges": )",
              parts.whole_pieces ? "true" : "false", ",\n    \"vocab\": {");
  comma = "\n";
  for (size_t id = 0; id < spelled.size(); ++id) {
    if (spelled[id].empty()) continue;
    text += str(comma, "      ", json_text(spelled[id]), ": ", id);
    comma = ",\n";
  }
  text += "\n    },\n    \"merges\": [";
  comma = "\n";
  for (const Merge& merge : parts.merges) {
    text += str(comma, "      [", json_text(spelled[size_t(merge.left)]), ", ", json_text(spelled[size_t(merge.right)]),
                "]");
    comma = ",\n";
  }
  return text + "\n    ]\n  }\n}\n";
}

std::string tokenizer_config_json(const TokenizerParts& parts) {
  nlohmann::ordered_json config{{"tokenizer_class", "PreTrainedTokenizerFast"},
                                {"clean_up_tokenization_spaces", false}};
  if (!parts.end_of_text.empty())
    for (const char* key : {"bos_token", "eos_token", "unk_token"}) config[key] = parts.end_of_text;
  return config.dump(2) + "\n";
}

}  // namespace lockstep
