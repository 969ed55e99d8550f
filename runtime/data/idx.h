// SPDX-License-Identifier: Apache-2.0
// IDX files are the arrays of bytes in which MNIST and its kin are distributed, gzipped or as they are; they are read
// as hostile input.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lockstep {

// The end of a message about a missing or damaged file: what one may do.
inline constexpr const char* kDatasetRemedy =
    "install the data set anew (`apt-get install --reinstall dataset-fashion-mnist`) or name its folder with --data "
    "DIR";

struct IdxArray {
  std::vector<int64_t> sizes;  // outermost first
  std::vector<uint8_t> values;
};

// Reads an IDX file of unsigned bytes with `dimensions` dimensions and nothing behind the last value. It may be
// gzipped, in one member or several. Takes no more memory than a file of its size can hold when decompressed.
IdxArray read_idx(const std::string& path, int dimensions);

}  // namespace lockstep
