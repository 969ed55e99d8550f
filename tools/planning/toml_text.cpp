// SPDX-License-Identifier: Apache-2.0
#include "tools/planning/toml_text.h"

#include <algorithm>

#include "kernels/device/check.h"
#include "runtime/files/file_descriptor.h"

namespace lockstep {
namespace {

constexpr int64_t kLargestFile = 4 << 20;  // bytes
constexpr int64_t kMostDotsInALine = 64;   // each dot of a key is a nested table, and toml++ destroys them recursively
constexpr std::string_view kByteOrderMark = "\xef\xbb\xbf";

bool is_ascii(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return uint8_t(c) < 0x80; });
}

// A line without quotes is a comment or the middle of a text, never code behind the end of a text.
bool is_comment(std::string_view line) {
  const size_t begin = line.find_first_not_of(" \t");
  return begin != line.npos && line[begin] == '#' && line.find_first_of("\"'") == line.npos;
}

}  // namespace

std::string read_toml_text(const std::string& path) { return read_text(path, kLargestFile, "a model or rules file"); }

void check_toml_text(std::string_view text, const std::string& where) {
  check(int64_t(text.size()) <= kLargestFile, ErrorCode::data, [&] {
    return str(where, ": expected at most ", kLargestFile, " bytes, got ", text.size(),
               "; `repeat` describes layers that are alike");
  });
  if (text.starts_with(kByteOrderMark)) text.remove_prefix(kByteOrderMark.size());
  for (int64_t number = 1; !text.empty(); ++number) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    check(std::ranges::count(line, '.') <= kMostDotsInALine, ErrorCode::data, [&] {
      return str(where, ":", number, ": expected at most ", kMostDotsInALine, " dots in a line; shorten it");
    });
    // toml++ has undefined behaviour for many characters from U+00A0 on where it looks for white space.
    check(is_ascii(line) || is_comment(line), ErrorCode::data, [&] {
      return str(where, ":", number, ": characters beyond ASCII may stand only in comments on lines of their own, ",
                 "without quotes; in texts write escapes such as \"\\u00e9\"");
    });
  }
}

}  // namespace lockstep
