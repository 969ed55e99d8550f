// SPDX-License-Identifier: Apache-2.0
#include "runtime/text/pretokenizer.h"

#include "runtime/text/unicode.h"

namespace lockstep {
namespace {

// Reads characters one after the other, with their classes.
class Scanner {
 public:
  explicit Scanner(std::string_view text) : text_(text) { look(); }

  bool at_end() const { return at_ == text_.size(); }
  size_t at() const { return at_; }
  CharacterClass kind() const { return kind_; }
  uint32_t code() const { return here_.code; }
  bool is(CharacterClass kind) const { return !at_end() && kind_ == kind; }
  bool is_line_end() const { return !at_end() && (code() == '\n' || code() == '\r'); }
  bool is_blank() const { return !at_end() && code() == ' '; }

  void step() {
    at_ += size_t(here_.bytes);
    look();
  }
  void go_to(size_t place) {
    at_ = place;
    look();
  }
  size_t run_of(CharacterClass kind) {
    while (is(kind)) step();
    return at_;
  }

 private:
  void look() {
    if (at_ == text_.size()) return;
    here_ = read_character(text_.substr(at_));
    kind_ = class_of(here_.code);
  }

  std::string_view text_;
  size_t at_ = 0;
  Character here_;
  CharacterClass kind_ = CharacterClass::other;
};

constexpr uint32_t kLongS = 0x17f;  // it equals s where case does not matter

// The bytes of 's, 't, 're, 've, 'm, 'll or 'd at the start of a text, or 0.
size_t contraction(std::string_view text, bool any_case) {
  if (text.size() < 2 || text[0] != '\'') return 0;
  const auto lower = [&](size_t i) {
    const char c = i < text.size() ? text[i] : '\0';
    return any_case && c >= 'A' && c <= 'Z' ? char(c - 'A' + 'a') : c;
  };
  const char first = lower(1), second = lower(2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  if ((first == 'r' || first == 'v') && second == 'e') return 3;
  if (first == 'l' && second == 'l') return 3;
  const Character next = read_character(text.substr(1));
  return any_case && next.code == kLongS ? 1 + size_t(next.bytes) : 0;
}

// \s+(?!\S)|\s+ from a space on: all of them, but before something visible the last is left to it, unless it is alone.
size_t spaces(Scanner& scan) {
  size_t last = 0;
  while (scan.is(CharacterClass::space)) {
    last = scan.at();
    scan.step();
  }
  return scan.at_end() || last == 0 ? scan.at() : last;
}

size_t first_of_gpt2(std::string_view text) {
  if (const size_t bytes = contraction(text, false)) return bytes;
  Scanner scan(text);
  if (scan.is_blank()) {
    scan.step();
    if (scan.at_end() || scan.kind() == CharacterClass::space) {
      scan.go_to(0);
      return spaces(scan);
    }
  }
  if (scan.kind() == CharacterClass::space) return spaces(scan);
  return scan.run_of(scan.kind());
}

// Numbers stand alone, and the rule above sees only what is between them.
size_t first_of_gpt2_digits(std::string_view text) {
  Scanner scan(text);
  if (scan.is(CharacterClass::number)) return scan.step(), scan.at();
  // To a run of spaces before a number the text ends there.
  if (const size_t blanks = scan.run_of(CharacterClass::space); scan.is(CharacterClass::number)) return blanks;
  const size_t first = first_of_gpt2(text);
  scan.go_to(0);
  while (scan.at() < first && !scan.is(CharacterClass::number)) scan.step();
  return scan.at();
}

// \s*[\r\n]+|\s+(?!\S)|\s+ from a space on: up to the last line end among them, if there is one.
size_t spaces_by_lines(Scanner& scan) {
  Scanner ahead = scan;
  size_t behind_line_end = 0;
  while (ahead.is(CharacterClass::space)) {
    const bool line_end = ahead.is_line_end();
    ahead.step();
    if (line_end) behind_line_end = ahead.at();
  }
  return behind_line_end > 0 ? behind_line_end : spaces(scan);
}

size_t first_of_llama3(std::string_view text) {
  if (const size_t bytes = contraction(text, true)) return bytes;
  Scanner scan(text);
  if (scan.is(CharacterClass::letter)) return scan.run_of(CharacterClass::letter);
  if (scan.is(CharacterClass::number)) {
    for (int digits = 0; digits < 3 && scan.is(CharacterClass::number); ++digits) scan.step();
    return scan.at();
  }
  const bool blank = scan.is_blank();
  if (!scan.is_line_end()) {
    scan.step();
    if (scan.is(CharacterClass::letter)) return scan.run_of(CharacterClass::letter);
    if (!(blank && scan.is(CharacterClass::other))) scan.go_to(0);
  }
  if (scan.is(CharacterClass::other)) {
    scan.run_of(CharacterClass::other);
    while (scan.is_line_end()) scan.step();
    return scan.at();
  }
  return spaces_by_lines(scan);
}

}  // namespace

std::string_view to_string(PieceRule rule) {
  switch (rule) {
    case PieceRule::gpt2:
      return "gpt2";
    case PieceRule::gpt2_digits:
      return "gpt2-digits";
    case PieceRule::llama3:
      return "llama3";
  }
  return "gpt2";
}

size_t first_piece(PieceRule rule, std::string_view text) {
  switch (rule) {
    case PieceRule::gpt2:
      return first_of_gpt2(text);
    case PieceRule::gpt2_digits:
      return first_of_gpt2_digits(text);
    case PieceRule::llama3:
      return first_of_llama3(text);
  }
  return text.size();
}

size_t safe_cut(std::string_view text, size_t from) {
  for (size_t at = from < 1 ? 1 : from; at < text.size(); ++at)
    if (text[at] == ' ' && text[at - 1] > ' ' && text[at - 1] <= '~') return at;
  return text.size();
}

}  // namespace lockstep
