// SPDX-License-Identifier: Apache-2.0
#include "tests/fuzz/mutate.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <string_view>
#include <utility>

namespace lockstep {
namespace {

constexpr size_t kLongest = 1 << 18;  // bytes of an input

constexpr std::array<std::string_view, 22> kNumbers = {"0",
                                                       "-1",
                                                       "1",
                                                       "2",
                                                       "3",
                                                       "7",
                                                       "64",
                                                       "255",
                                                       "1000",
                                                       "65536",
                                                       "1000000",
                                                       "2147483647",
                                                       "2147483648",
                                                       "4294967296",
                                                       "281474976710656",
                                                       "281474976710657",
                                                       "9223372036854775807",
                                                       "9223372036854775808",
                                                       "18446744073709551616",
                                                       "1e999",
                                                       "0.1",
                                                       "-0"};
constexpr std::array<std::string_view, 40> kTokens = {"[",
                                                      "]",
                                                      "{",
                                                      "}",
                                                      "\"",
                                                      "'",
                                                      "\"\"\"",
                                                      ",",
                                                      ":",
                                                      "=",
                                                      ".",
                                                      "\\",
                                                      "\n",
                                                      "\r\n",
                                                      "#",
                                                      "null",
                                                      "true",
                                                      "false",
                                                      "nan",
                                                      "-inf",
                                                      "1979-05-27T07:32:00Z",
                                                      "0x7f",
                                                      "[[variable]]\n",
                                                      "[layout]\n",
                                                      "repeat = 3\n",
                                                      "{i}",
                                                      "'(a+)+$' = ['data']\n",
                                                      "'.*a.{99}' = []\n",
                                                      "\\u0000",
                                                      "\\ud800",
                                                      "\xef\xbb\xbf",
                                                      "\xff",
                                                      "\xc0\xaf",
                                                      "\"model\"",
                                                      "\"data\"",
                                                      "\"bf16\"",
                                                      "\"slot\"",
                                                      "\"parameter\"",
                                                      "\"where\"",
                                                      "a.a.a.a.a.a.a.a"};

size_t below(size_t bound, Random& random) { return bound == 0 ? 0 : size_t(random() % bound); }

std::pair<size_t, size_t> any_range(const std::string& text, size_t longest, Random& random) {
  const size_t begin = below(text.size() + 1, random);
  return {begin, std::min(below(longest, random) + 1, text.size() - begin)};
}

// [begin, length) of a run of digits, or the text between two equal quotes; {0, 0} when none follows a random place.
std::pair<size_t, size_t> any_number(const std::string& text, Random& random) {
  const auto digit = [](char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; };
  const auto begin = std::find_if(text.begin() + std::ptrdiff_t(below(text.size(), random)), text.end(), digit);
  const auto end = std::find_if_not(begin, text.end(), digit);
  return {size_t(begin - text.begin()), size_t(end - begin)};
}
std::pair<size_t, size_t> any_quoted(const std::string& text, Random& random) {
  const size_t open = text.find_first_of("\"'", below(text.size(), random));
  if (open == text.npos) return {0, 0};
  const size_t close = text.find(text[open], open + 1);
  return close == text.npos ? std::pair<size_t, size_t>{0, 0} : std::pair{open, close + 1 - open};
}
std::pair<size_t, size_t> any_line(const std::string& text, Random& random) {
  const size_t end = text.find('\n', below(text.size(), random));
  if (end == text.npos) return {0, text.size()};
  const size_t before = end == 0 ? text.npos : text.rfind('\n', end - 1);
  const size_t begin = before == text.npos ? 0 : before + 1;
  return {begin, end + 1 - begin};
}

void change_bytes(std::string& text, const std::string& other, Random& random) {
  const auto [begin, length] = any_range(text, 64, random);
  switch (random() % 7) {
    case 0:
      if (begin < text.size()) text[begin] = char(text[begin] ^ (1 << random() % 8));
      break;
    case 1:
      if (begin < text.size()) text[begin] = char(random() % 256);
      break;
    case 2:
      text.erase(begin, length);
      break;
    case 3:
      text.insert(begin, text.substr(begin, length));
      break;
    case 4:
      text.insert(begin, kTokens[below(kTokens.size(), random)]);
      break;
    case 5: {
      const auto [from, count] = any_range(other, 256, random);
      text.replace(begin, length, other, from, count);
      break;
    }
    default:
      text.resize(begin);
  }
}

void change_tokens(std::string& text, const std::string& other, Random& random) {
  const auto replace = [&](std::pair<size_t, size_t> place, std::string_view by) {
    if (place.second > 0) text.replace(place.first, place.second, by);
  };
  const auto piece = [](const std::string& from, std::pair<size_t, size_t> place) {
    return from.substr(place.first, place.second);
  };
  switch (random() % 6) {
    case 0:
      return replace(any_number(text, random), kNumbers[below(kNumbers.size(), random)]);
    case 1:
      return replace(any_number(text, random), piece(other, any_number(other, random)));
    case 2:
      return replace(any_quoted(text, random), piece(other, any_quoted(other, random)));
    case 3:
      return replace(any_line(text, random), piece(other, any_line(other, random)));
    case 4:
      return replace(any_line(text, random), "");
    default: {
      const auto [begin, length] = any_line(text, random);
      text.insert(begin, text.substr(begin, length));
    }
  }
}

// What is harmless once may not be a thousand times.
void repeat_piece(std::string& text, Random& random) {
  const auto [begin, length] = any_range(text, 16, random);
  const std::string piece = text.substr(begin, length);
  std::string repeated;
  const size_t times = size_t(1) << random() % 14;
  for (size_t i = 0; i < times; ++i) repeated += piece;
  text.insert(begin, repeated);
}

}  // namespace

std::string mutate(std::string text, const std::vector<std::string>& corpus, Random& random) {
  const std::string& other = corpus[below(corpus.size(), random)];
  const int changes = 1 + int(random() % 5);
  const bool keeps_syntax = random() % 2 == 0;
  for (int i = 0; i < changes; ++i) {
    if (text.empty()) text = other;
    if (random() % 64 == 0)
      repeat_piece(text, random);
    else if (keeps_syntax)
      change_tokens(text, random() % 2 ? other : std::string(text), random);
    else
      change_bytes(text, other, random);
  }
  if (text.size() > kLongest) text.resize(kLongest);
  return text;
}

}  // namespace lockstep
