// SPDX-License-Identifier: Apache-2.0
// Labelled grey images for training and testing, in memory: Fashion-MNIST, or any data set in its four IDX files.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lockstep {

inline constexpr const char* kDefaultDataFolder = "/usr/share/datasets/fashion-mnist";
inline constexpr int kClasses = 10;

struct Images {
  int64_t count = 0;
  int64_t height = 0;
  int64_t width = 0;
  std::vector<uint8_t> pixels;  // [count, height, width]
  std::vector<uint8_t> labels;  // [count], below kClasses

  int64_t pixels_each() const { return height * width; }
};

struct Dataset {
  Images train;
  Images test;
  uint64_t content_hash = 0;  // over sizes, pixels and labels; ranks compare it before they train
};

// Reads {train,t10k}-{images-idx3,labels-idx1}-ubyte.gz. Throws Error(file) or Error(data) naming the file.
Dataset load_dataset(const std::string& folder);

}  // namespace lockstep
