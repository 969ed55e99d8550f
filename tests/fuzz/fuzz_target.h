// SPDX-License-Identifier: Apache-2.0
// What a fuzz target offers its driver: the entry that libFuzzer knows, and inputs to start from.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

// Returns 0; throws when the code under test does what it must not.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace lockstep {

// Besides the files of the corpus.
std::vector<std::string> built_in_seeds();

// Fails the run unless an error's message names the input, is of bearable length and moves no cursor.
inline void check_message(std::string_view message, std::string_view input) {
  const auto require = [&](bool holds, const char* what) {
    if (!holds) throw std::logic_error(std::string(what) + ": " + std::string(message.substr(0, 2000)));
  };
  require(message.find(input) != message.npos, "a message does not name the input");
  require(message.size() <= 2000, "a message is longer than 2000 bytes");
  for (const char c : message) require(uint8_t(c) >= 0x20 && c != 0x7f, "a message has a control character");
}

}  // namespace lockstep
