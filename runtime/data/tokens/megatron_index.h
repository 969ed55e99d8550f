// SPDX-License-Identifier: Apache-2.0
// The .idx file of Megatron, which says what lies where in the .bin file beside it:
//   "MMIDIDX\0\0", u64 version 1, u8 type (8: u16, 4: i32), u64 sequences, u64 entries of documents,
//   i32 length of each sequence, i64 byte of each sequence, i64 number of the first sequence of each document
#pragma once

#include <cstdint>
#include <string>

namespace lockstep {

struct MegatronIndex {
  int token_bytes = 2;
  int64_t sequences = 0;
  int64_t tokens = 0;  // of all sequences, which follow one another
};

// Error(data) names the file and what was expected. Files in which sequences do not follow one another are refused:
// tokens are read as one row.
MegatronIndex read_megatron_index(const std::string& path);

}  // namespace lockstep
