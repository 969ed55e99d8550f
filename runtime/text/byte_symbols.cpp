// SPDX-License-Identifier: Apache-2.0
#include "runtime/text/byte_symbols.h"

#include "runtime/text/unicode.h"

namespace lockstep {
namespace {

constexpr uint32_t kFirstStandIn = 0x100;

constexpr std::array<uint32_t, 256> kCodes = [] {
  std::array<uint32_t, 256> codes{};
  uint32_t stand_in = kFirstStandIn;
  for (const uint8_t byte : kBytesBySymbol) codes[byte] = is_own_symbol(byte) ? byte : stand_in++;
  return codes;
}();

constexpr uint32_t kHighestCode = kFirstStandIn + 68 - 1;  // 68 bytes do not stand for themselves

constexpr std::array<int, kHighestCode + 1> kByteOfCode = [] {
  std::array<int, kHighestCode + 1> bytes{};
  bytes.fill(-1);
  for (int byte = 0; byte < 256; ++byte) bytes[kCodes[size_t(byte)]] = byte;
  return bytes;
}();

}  // namespace

std::string symbols_of(std::string_view bytes) {
  std::string symbols;
  for (const char byte : bytes) {
    const uint32_t code = kCodes[uint8_t(byte)];
    if (code < 0x80)
      symbols += char(code);
    else
      symbols += {char(0xc0 | code >> 6), char(0x80 | (code & 0x3f))};
  }
  return symbols;
}

std::optional<std::string> bytes_of_symbols(std::string_view symbols) {
  std::string bytes;
  while (!symbols.empty()) {
    const Character next = read_character(symbols);
    if (next.code > kHighestCode || kByteOfCode[next.code] < 0) return std::nullopt;
    bytes += char(kByteOfCode[next.code]);
    symbols.remove_prefix(size_t(next.bytes));
  }
  return bytes;
}

}  // namespace lockstep
