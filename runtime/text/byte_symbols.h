// SPDX-License-Identifier: Apache-2.0
// The spelling of bytes in files of byte-level tokenizers: each byte is a visible character. GPT-2 chose them: bytes
// that are visible in Latin-1 stand for themselves, the others are the characters from U+0100 on, in their order.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace lockstep {

// Whether a byte stands for itself: ! to ~, and the visible half of Latin-1 without the soft hyphen.
constexpr bool is_own_symbol(int byte) {
  return (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
}

// The 256 bytes in the order of their symbols, which is that of the first tokens of GPT-2.
constexpr std::array<uint8_t, 256> kBytesBySymbol = [] {
  std::array<uint8_t, 256> bytes{};
  size_t count = 0;
  for (const bool own : {true, false})
    for (int byte = 0; byte < 256; ++byte)
      if (is_own_symbol(byte) == own) bytes[count++] = uint8_t(byte);
  return bytes;
}();

// Bytes as symbols, in UTF-8.
std::string symbols_of(std::string_view bytes);
// The bytes that symbols stand for; nothing where a character is no symbol.
std::optional<std::string> bytes_of_symbols(std::string_view symbols);

}  // namespace lockstep
