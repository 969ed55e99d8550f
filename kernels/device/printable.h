// SPDX-License-Identifier: Apache-2.0
// Text of users and files as a terminal may show it.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace lockstep {

// Returns `text` on one line, with every control character of UTF-8 as \xNN. Of more than `longest` bytes the middle is
// left out.
inline std::string printable(std::string_view text, size_t longest = 2000) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string visible;
  bool inside = false;  // behind the first byte of U+0080 to U+009F, which are control characters of two bytes
  for (size_t i = 0; i < text.size(); ++i) {
    if (text.size() > longest && i == longest / 2) {
      visible += "[... " + std::to_string(text.size() - longest) + " bytes ...]";
      i += text.size() - longest;
    }
    const auto byte = static_cast<unsigned char>(text[i]);
    const auto next = static_cast<unsigned char>(i + 1 < text.size() ? text[i + 1] : 0);
    const bool begins = byte == 0xc2 && next >= 0x80 && next < 0xa0;
    if (byte < 0x20 || byte == 0x7f || begins || inside)
      visible += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    else
      visible += text[i];
    inside = begins;
  }
  return visible;
}

}  // namespace lockstep
