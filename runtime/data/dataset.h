// SPDX-License-Identifier: Apache-2.0
// Labelled grey images for training and testing, in memory: Fashion-MNIST, or any data set in its four IDX files.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lockstep {

inline constexpr const char* kDefaultDataFolder = "/usr/share/datasets/fashion-mnist";
inline constexpr int64_t kMostClasses = 256;  // labels are bytes

struct Images {
  int64_t count = 0;
  int64_t height = 0;
  int64_t width = 0;
  std::vector<uint8_t> pixels;     // [count, height, width]
  std::vector<uint8_t> labels;     // [count]
  int64_t classes = kMostClasses;  // labels are below it

  int64_t pixels_each() const { return height * width; }
};

struct Dataset {
  Images train;
  Images test;
  uint64_t content_hash = 0;       // over sizes, pixels and labels; ranks compare it before they train
  std::vector<std::string> files;  // that were read

  int64_t classes() const { return train.classes; }
};

// Reads the files that find_dataset_files() finds. `classes`: 0 for one more than the largest label of the training
// images, which those of the test images must not exceed. Throws Error(file) or Error(data) naming the file.
Dataset load_dataset(const std::string& where, int64_t classes = 0);

}  // namespace lockstep
