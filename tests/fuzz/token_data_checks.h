// SPDX-License-Identifier: Apache-2.0
// Files of tokens on disk, as any bytes, and what must hold of them when they are read.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/device/check.h"
#include "runtime/data/tokens/token_dataset.h"
#include "tests/fuzz/fuzz_target.h"

namespace lockstep {

// In memory where the system has such a folder.
inline std::string fuzz_path(std::string_view ending) {
  return str(::access("/dev/shm", W_OK) == 0 ? "/dev/shm" : ".", "/lockstep_fuzz_", ::getpid(), ending);
}

inline void put(const std::string& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary).write(bytes.data(), std::streamsize(bytes.size()));
}

template <class T>
void append(std::string& bytes, T value) {
  bytes.append(reinterpret_cast<const char*>(&value), sizeof value);
}

// Reads all of a file: refused by an Error that names it, or every token and sample can be had.
inline void check_tokens(const std::string& path, std::string_view named) {
  try {
    const TokenDataset data({path}, 3);
    const TokenScan scan = data.scan(1000);
    if (scan.tokens != data.tokens()) throw std::logic_error("a scan misses tokens");
    std::vector<int32_t> tokens(3), targets(3);
    for (const int64_t sample : {int64_t(0), data.samples() / 2, data.samples() - 1}) {
      data.read(sample, tokens, targets);
      for (const int32_t token : targets)
        if (token < 0 || token > scan.highest) throw std::logic_error("a token is not among those scanned");
    }
  } catch (const Error& error) {
    check_message(error.what(), named);
  }
}

}  // namespace lockstep
