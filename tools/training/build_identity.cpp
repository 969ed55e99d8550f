// SPDX-License-Identifier: Apache-2.0
#include "tools/training/build_identity.h"

#define XXH_INLINE_ALL
#include <fmt/format.h>
#include <xxhash.h>

#include <fstream>
#include <iterator>
#include <vector>

#include "kernels/device/check.h"

namespace lockstep {

std::string build_identity() {
  constexpr const char* kSelf = "/proc/self/exe";
  std::ifstream file(kSelf, std::ios::binary);
  check(file.is_open(), ErrorCode::file,
        [&] { return str("cannot read ", kSelf, ", the running program, to compare it across ranks"); });
  XXH3_state_t state;
  XXH3_64bits_reset(&state);
  std::vector<char> chunk(1 << 20);
  while (file) {
    file.read(chunk.data(), std::streamsize(chunk.size()));
    XXH3_64bits_update(&state, chunk.data(), size_t(file.gcount()));
  }
  return fmt::format("{:016x}", XXH3_64bits_digest(&state));
}

}  // namespace lockstep
