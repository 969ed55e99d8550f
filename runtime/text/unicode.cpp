// SPDX-License-Identifier: Apache-2.0
#include "runtime/text/unicode.h"

#include <utf8proc.h>

#include <algorithm>

namespace lockstep {
namespace {

bool continues(uint8_t byte) { return (byte & 0xc0) == 0x80; }

// The number of bytes of a character that starts with `byte`; 1 also for what starts none.
int announced_bytes(uint8_t byte) {
  if (byte >= 0xc2 && byte <= 0xdf) return 2;
  if (byte >= 0xe0 && byte <= 0xef) return 3;
  if (byte >= 0xf0 && byte <= 0xf4) return 4;
  return 1;
}

// Whether `second` may follow `first`: this keeps out overlong forms, surrogates and codes above 10FFFF.
bool may_follow(uint8_t first, uint8_t second) {
  switch (first) {
    case 0xe0:
      return second >= 0xa0 && second <= 0xbf;
    case 0xed:
      return second >= 0x80 && second <= 0x9f;
    case 0xf0:
      return second >= 0x90 && second <= 0xbf;
    case 0xf4:
      return second >= 0x80 && second <= 0x8f;
    default:
      return continues(second);
  }
}

}  // namespace

Character read_long_character(std::string_view text) {
  const auto byte = [&](size_t i) { return uint8_t(text[i]); };
  const uint8_t first = byte(0);
  const int bytes = announced_bytes(first);
  if (bytes == 1 || text.size() < size_t(bytes) || !may_follow(first, byte(1))) return {kInvalidCode, 1};
  uint32_t code = first & (0x7f >> bytes);
  for (size_t i = 1; i < size_t(bytes); ++i) {
    if (!continues(byte(i))) return {kInvalidCode, 1};
    code = code << 6 | (byte(i) & 0x3f);
  }
  return {code, bytes};
}

int incomplete_bytes(std::string_view text) {
  const size_t most = std::min<size_t>(3, text.size());
  for (size_t back = 1; back <= most; ++back) {
    const uint8_t byte = uint8_t(text[text.size() - back]);
    if (continues(byte)) continue;
    const bool cut = announced_bytes(byte) > int(back);
    const bool valid_so_far = back == 1 || may_follow(byte, uint8_t(text[text.size() - back + 1]));
    return cut && valid_so_far ? int(back) : 0;
  }
  return 0;
}

CharacterClass class_beyond_ascii(uint32_t code) {
  if (code > 0x10ffff) return CharacterClass::other;
  const utf8proc_category_t category = utf8proc_category(utf8proc_int32_t(code));
  if (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO) return CharacterClass::letter;
  if (category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO) return CharacterClass::number;
  // White_Space are the separators and, beyond ASCII, one control character.
  const bool separator = category >= UTF8PROC_CATEGORY_ZS && category <= UTF8PROC_CATEGORY_ZP;
  return separator || code == 0x85 ? CharacterClass::space : CharacterClass::other;
}

std::string_view unicode_version() { return utf8proc_unicode_version(); }

}  // namespace lockstep
