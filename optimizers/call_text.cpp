// SPDX-License-Identifier: Apache-2.0
#include "optimizers/call_text.h"

#include <charconv>
#include <cstddef>

#include "kernels/device/check.h"

namespace lockstep {

namespace {

bool is_word(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; }

class Parser {
 public:
  Parser(std::string_view what, std::string_view text) : what_(what), text_(text) {}

  CallText parse() {
    CallText call{.name = word("a name"), .numbers = {}, .lists = {}};
    if (take('(') && !take(')')) {
      do argument(call);
      while (take(','));
      if (!take(')')) expected("',' or ')'");
    }
    skip_spaces();
    if (at_ < text_.size()) expected("the end");
    return call;
  }

 private:
  void argument(CallText& call) {
    const std::string key = word("the name of a parameter");
    if (call.numbers.contains(key) || call.lists.contains(key)) expected(str(key, " only once"));
    if (!take('=')) expected(str("'=' and a value for ", key));
    if (!take('[')) {
      call.numbers[key] = number();
      return;
    }
    std::vector<double>& list = call.lists[key];
    if (take(']')) return;
    do list.push_back(number());
    while (take(','));
    if (!take(']')) expected("',' or ']'");
  }

  double number() {
    skip_spaces();
    const std::string_view rest = text_.substr(at_);
    for (const std::string_view truth : {"true", "false"}) {
      if (!rest.starts_with(truth)) continue;
      at_ += truth.size();
      return truth == "true" ? 1 : 0;
    }
    double value = 0;
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + rest.size(), value);
    if (error != std::errc()) expected("a number, true, false, or a list like [1, 2]");
    at_ += size_t(end - rest.data());
    return value;
  }

  std::string word(std::string_view meaning) {
    skip_spaces();
    const size_t begin = at_;
    while (at_ < text_.size() && is_word(text_[at_])) ++at_;
    if (at_ == begin) expected(meaning);
    return std::string(text_.substr(begin, at_ - begin));
  }

  bool take(char c) {
    skip_spaces();
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  void skip_spaces() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
  }

  [[noreturn]] void expected(std::string_view expectation) const {
    const std::string found = at_ < text_.size() ? str("'", text_.substr(at_), "'") : "the end";
    fail(ErrorCode::usage, str(what_, " '", text_, "': expected ", expectation, " after '", text_.substr(0, at_),
                               "', got ", found, "; write it like name(key=value, key=value)"));
  }

  std::string_view what_, text_;
  size_t at_ = 0;
};

}  // namespace

CallText parse_call(std::string_view what, std::string_view text) { return Parser(what, text).parse(); }

}  // namespace lockstep
