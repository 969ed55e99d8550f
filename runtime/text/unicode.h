// SPDX-License-Identifier: Apache-2.0
// Characters of text that may be no text: UTF-8 is read byte by byte, and each character has one of the four classes
// that pre-tokenisation knows.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace lockstep {

enum class CharacterClass : uint8_t { letter, number, space, other };

struct Character {
  uint32_t code = 0;  // kInvalidCode for a byte that is no part of valid UTF-8
  int bytes = 0;
};
inline constexpr uint32_t kInvalidCode = 0xffffffff;

Character read_long_character(std::string_view text);

// The character at the start of `text`, which is not empty. Overlong forms, surrogates, codes above 10FFFF and cut
// sequences are no UTF-8: their first byte is then a character by itself.
inline Character read_character(std::string_view text) {
  if (uint8_t(text[0]) < 0x80) [[likely]]
    return {uint8_t(text[0]), 1};
  return read_long_character(text);
}

// How many of the bytes at the end of `text` may be the beginning of a character that is not complete yet: 0 to 3.
int incomplete_bytes(std::string_view text);

constexpr CharacterClass class_of_ascii(uint32_t code) {
  if ((code >= 'a' && code <= 'z') || (code >= 'A' && code <= 'Z')) return CharacterClass::letter;
  if (code >= '0' && code <= '9') return CharacterClass::number;
  if ((code >= 0x09 && code <= 0x0d) || code == ' ') return CharacterClass::space;
  return CharacterClass::other;
}
inline constexpr std::array<CharacterClass, 128> kAsciiClasses = [] {
  std::array<CharacterClass, 128> classes{};
  for (uint32_t code = 0; code < 128; ++code) classes[code] = class_of_ascii(code);
  return classes;
}();
CharacterClass class_beyond_ascii(uint32_t code);

// General categories L* are letters, N* numbers; spaces have the property White_Space. All else, also what the Unicode
// version of the library does not know and bytes that are no UTF-8, is `other`.
inline CharacterClass class_of(uint32_t code) {
  if (code < 128) [[likely]]
    return kAsciiClasses[code];
  return class_beyond_ascii(code);
}

// The version of Unicode by which class_of() decides, "15.0.0".
std::string_view unicode_version();

}  // namespace lockstep
