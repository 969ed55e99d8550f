// SPDX-License-Identifier: Apache-2.0
#include "runtime/text/tokenizer_files.h"

#include <algorithm>
#include <array>
#include <unordered_map>
#include <utility>

#include "runtime/files/json_reader.h"
#include "runtime/text/byte_symbols.h"

namespace lockstep {
namespace {

// The spellings of the rules in files, next to each other because they are compared as text.
struct Spelling {
  std::string_view expression;
  PieceRule rule;
};
constexpr std::array<Spelling, 3> kSpellings = {
    {{R"('(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)", PieceRule::gpt2},
     {R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)", PieceRule::gpt2},
     {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
      PieceRule::llama3}}};

// Tokens that end a text where no configuration names one, the likelier first.
constexpr std::array<std::string_view, 3> kEndOfText = {"<|endoftext|>", "<|end_of_text|>", "</s>"};

// A vocabulary with the numbers of its symbols.
class Vocabulary {
 public:
  Vocabulary(const Json& json, std::string where) : where_(std::move(where)) {
    check(json.is_object() && !json.empty(), ErrorCode::data,
          [&] { return str(where_, ": expected an object of tokens and their numbers, got ", shown(json)); });
    // A number far above the others would take memory for all below it.
    most_ = int64_t(json.size()) * 2 + 1000;
    for (const auto& [symbols, id] : json.items()) add(symbols, number_of(id, symbols));
  }

  int64_t number_of(const Json& id, const std::string& symbols) const {
    check(id.is_number_integer() && id.get<int64_t>() >= 0 && id.get<int64_t>() < most_, ErrorCode::data, [&] {
      return str(where_, ": expected a number from 0 to ", most_ - 1, " for the token ", shown(Json(symbols)), ", got ",
                 shown(id));
    });
    return id.get<int64_t>();
  }

  void add(std::string symbols, int64_t id) {
    if (size_t(id) >= symbols_.size()) symbols_.resize(size_t(id) + 1);
    check(symbols_[size_t(id)].empty() && !symbols.empty(), ErrorCode::data, [&] {
      return str(where_, ": the tokens ", shown(Json(symbols_[size_t(id)])), " and ", shown(Json(symbols)),
                 " have the same number ", id);
    });
    const auto added = numbers_.emplace(symbols, int32_t(id));
    check(added.second, ErrorCode::data, [&] {
      return str(where_, ": the token ", shown(Json(symbols)), " has two numbers, ", added.first->second, " and ", id);
    });
    symbols_[size_t(id)] = std::move(symbols);
  }

  int32_t find(const std::string& symbols) const {
    const auto found = numbers_.find(symbols);
    return found == numbers_.end() ? -1 : found->second;
  }
  const std::vector<std::string>& symbols() const { return symbols_; }
  const std::string& where() const { return where_; }

  Merge merge(const std::string& left, const std::string& right, const std::string& where_merge) const {
    const Merge merge{find(left), find(right), find(left + right)};
    check(merge.left >= 0 && merge.right >= 0 && merge.result >= 0, ErrorCode::data, [&] {
      const std::string& lost = merge.left < 0 ? left : merge.right < 0 ? right : left + right;
      return str(where_merge, ": the vocabulary has no token ", shown(Json(lost)), ", which the merge of ",
                 shown(Json(left)), " and ", shown(Json(right)), " needs; use the two files that belong together");
    });
    return merge;
  }

 private:
  std::string where_;
  int64_t most_ = 0;
  std::vector<std::string> symbols_;  // by number
  std::unordered_map<std::string, int32_t> numbers_;
};

// Whether the vocabulary alone can say what bytes a token has.
void fill_tokens(const Vocabulary& vocabulary, TokenizerParts& parts) {
  parts.tokens.resize(vocabulary.symbols().size());
  for (const AddedToken& token : parts.added) parts.tokens[size_t(token.id)] = token.text;
  for (size_t id = 0; id < parts.tokens.size(); ++id) {
    const std::string& symbols = vocabulary.symbols()[id];
    if (symbols.empty() || !parts.tokens[id].empty()) continue;
    const std::optional<std::string> bytes = bytes_of_symbols(symbols);
    check(bytes.has_value(), ErrorCode::data, [&] {
      return str(vocabulary.where(), ": the token ", id, ", ", shown(Json(symbols)),
                 ", is not spelled in the symbols of bytes; only byte-level tokenizers are read");
    });
    parts.tokens[id] = *bytes;
  }
}

// "a b": the two sides of a merge.
std::pair<std::string, std::string> split_merge(std::string_view line, const std::string& where) {
  const size_t blank = line.find(' ');
  const bool two = blank != line.npos && blank > 0 && blank + 1 < line.size() && line.find(' ', blank + 1) == line.npos;
  check(two, ErrorCode::data,
        [&] { return str(where, ": expected two tokens with a blank between them, got ", shown(Json(line))); });
  return {std::string(line.substr(0, blank)), std::string(line.substr(blank + 1))};
}

void read_merges(const Json& list, const std::string& where, const Vocabulary& vocabulary, TokenizerParts& parts) {
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string here = str(where, ".model.merges[", i, "]");
    if (list[i].is_string()) {
      const auto [left, right] = split_merge(list[i].get_ref<const std::string&>(), here);
      parts.merges.push_back(vocabulary.merge(left, right, here));
      continue;
    }
    check(list[i].is_array() && list[i].size() == 2 && list[i][0].is_string() && list[i][1].is_string(),
          ErrorCode::data, [&] { return str(here, ": expected two tokens, got ", shown(list[i])); });
    parts.merges.push_back(
        vocabulary.merge(list[i][0].get_ref<const std::string&>(), list[i][1].get_ref<const std::string&>(), here));
  }
}

bool is_set(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found != object.end() && !found->is_null() && *found != false && *found != "";
}

// Refuses what would make other tokens than those that are computed here.
void refuse(const Json& object, std::initializer_list<const char*> keys, const std::string& where, const char* why) {
  for (const char* key : keys)
    check(!is_set(object, key), ErrorCode::data,
          [&] { return str(where, ".", key, ": expected none, got ", shown(object.at(key)), "; ", why); });
}

std::string type_of(const Json& object) {
  return object.is_object() && object.contains("type") && object["type"].is_string() ? object["type"].get<std::string>()
                                                                                     : "";
}

bool is_byte_level(const Json& object, bool by_expression) {
  const auto flag = [&](const char* key, bool otherwise) {
    return object.contains(key) && object[key].is_boolean() ? object[key].get<bool>() : otherwise;
  };
  return type_of(object) == "ByteLevel" && !flag("add_prefix_space", true) && flag("use_regex", true) == by_expression;
}

std::optional<PieceRule> rule_of_split(const Json& split) {
  if (type_of(split) != "Split" || is_set(split, "invert") || !split.contains("pattern")) return std::nullopt;
  if (!split.contains("behavior") || split["behavior"] != "Isolated") return std::nullopt;
  const Json& pattern = split["pattern"];
  if (!pattern.is_object() || !pattern.contains("Regex") || !pattern["Regex"].is_string()) return std::nullopt;
  for (const Spelling& spelling : kSpellings)
    if (pattern["Regex"].get_ref<const std::string&>() == spelling.expression) return spelling.rule;
  return std::nullopt;
}

std::optional<PieceRule> rule_of(const Json& json) {
  if (is_byte_level(json, true)) return PieceRule::gpt2;
  if (type_of(json) != "Sequence" || !json.contains("pretokenizers")) return std::nullopt;
  const Json& steps = json["pretokenizers"];
  if (!steps.is_array() || steps.size() != 2) return std::nullopt;
  if (type_of(steps[0]) == "Digits" && is_set(steps[0], "individual_digits") && is_byte_level(steps[1], true))
    return PieceRule::gpt2_digits;
  return is_byte_level(steps[1], false) ? rule_of_split(steps[0]) : std::nullopt;
}

void read_added(const Json& list, const std::string& where, Vocabulary& vocabulary, TokenizerParts& parts) {
  for (size_t i = 0; i < list.size(); ++i) {
    const std::string here = str(where, ".added_tokens[", i, "]");
    const JsonReader token(list[i], here);
    refuse(list[i], {"lstrip", "rstrip", "single_word"}, here, "added tokens are found as they are");
    const Json& content = token.at("content");
    if (!content.is_string() || content == "") token.wrong("a text", content, "content");
    const std::string text = content.get<std::string>();
    const int64_t number = vocabulary.number_of(token.at("id"), text);
    if (size_t(number) >= vocabulary.symbols().size() || vocabulary.symbols()[size_t(number)].empty())
      vocabulary.add(text, number);
    check(vocabulary.symbols()[size_t(number)] == text, ErrorCode::data, [&] {
      return str(here, ": the number ", number, " is that of ", shown(Json(vocabulary.symbols()[size_t(number)])),
                 ", not of ", shown(content));
    });
    parts.added.push_back({text, int32_t(number), token.flag("special")});
  }
}

void find_end_of_text(TokenizerParts& parts) {
  for (const std::string_view name : kEndOfText)
    for (const AddedToken& token : parts.added)
      if (parts.end_of_text.empty() && token.special && token.text == name) parts.end_of_text = token.text;
}

}  // namespace

TokenizerParts parts_of_tokenizer_json(std::string_view text, const std::string& where) {
  const Json json = parse_json(text, where);
  const JsonReader file(json, where);
  const Json& model = file.at("model");
  const std::string where_model = where + ".model";
  const JsonReader model_reader(model, where_model);
  check(type_of(model) == "BPE" || !model.contains("type"), ErrorCode::data,
        [&] { return str(where_model, ".type: expected BPE, got ", shown(model["type"])); });
  refuse(model, {"dropout", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback"}, where_model,
         "only byte-level BPE is read");
  refuse(json, {"normalizer"}, where, "text is encoded as it is");
  TokenizerParts parts;
  const Json none;
  const Json& pre_tokenizer = json.contains("pre_tokenizer") ? json["pre_tokenizer"] : none;
  const std::optional<PieceRule> rule = rule_of(pre_tokenizer);
  check(rule.has_value(), ErrorCode::data, [&] {
    return str(where,
               ".pre_tokenizer: expected ByteLevel without a prefix space, by itself (GPT-2), behind Digits or "
               "behind the Split of Llama 3, got ",
               pre_tokenizer.dump(-1, ' ', true, Json::error_handler_t::replace).substr(0, 300));
  });
  parts.rule = *rule;
  parts.whole_pieces = is_set(model, "ignore_merges");
  Vocabulary vocabulary(model_reader.at("vocab"), where_model + ".vocab");
  read_merges(model_reader.list("merges"), where, vocabulary, parts);
  if (json.contains("added_tokens")) read_added(file.list("added_tokens"), where, vocabulary, parts);
  fill_tokens(vocabulary, parts);
  find_end_of_text(parts);
  return parts;
}

TokenizerParts parts_of_vocabulary(std::string_view vocabulary_text, const std::string& where_vocabulary,
                                   std::string_view merges, const std::string& where_merges) {
  const Vocabulary vocabulary(parse_json(vocabulary_text, where_vocabulary), where_vocabulary);
  TokenizerParts parts;
  for (int64_t number = 1; !merges.empty(); ++number) {
    std::string_view line = merges.substr(0, merges.find('\n'));
    merges.remove_prefix(std::min(merges.size(), line.size() + 1));
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.empty() || line.starts_with("#version")) continue;
    const std::string here = str(where_merges, ":", number);
    const auto [left, right] = split_merge(line, here);
    parts.merges.push_back(vocabulary.merge(left, right, here));
  }
  std::vector<bool> made(vocabulary.symbols().size());
  for (const Merge& merge : parts.merges) made[size_t(merge.result)] = true;
  for (size_t id = 0; id < made.size(); ++id) {
    const std::string& symbols = vocabulary.symbols()[id];
    const std::optional<std::string> bytes = bytes_of_symbols(symbols);
    if (!symbols.empty() && !made[id] && !(bytes && bytes->size() == 1)) parts.added.push_back({symbols, int32_t(id)});
  }
  fill_tokens(vocabulary, parts);
  find_end_of_text(parts);
  return parts;
}

std::string end_of_text_of_config(std::string_view text, const std::string& where) {
  const Json json = parse_json(text, where);
  check(json.is_object(), ErrorCode::data, [&] { return str(where, ": expected an object, got ", shown(json)); });
  const auto found = json.find("eos_token");
  if (found == json.end() || found->is_null()) return "";
  const Json& token = found->is_object() && found->contains("content") ? (*found)["content"] : *found;
  check(token.is_string(), ErrorCode::data,
        [&] { return str(where, ".eos_token: expected the text of a token, got ", shown(*found)); });
  return token.get<std::string>();
}

}  // namespace lockstep
