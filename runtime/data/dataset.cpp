// SPDX-License-Identifier: Apache-2.0
#include "runtime/data/dataset.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <filesystem>
#include <utility>

#include "kernels/device/check.h"
#include "runtime/data/idx.h"

namespace lockstep {
namespace {

IdxArray read_member(const std::string& folder, const std::string& name, int dimensions) {
  const std::string path = folder + "/" + name;
  std::error_code ignored;
  check(std::filesystem::exists(path, ignored), ErrorCode::file,
        [&] { return str("expected the data file '", path, "', found nothing there; ", kDatasetRemedy); });
  return read_idx(path, dimensions);
}

Images load_images(const std::string& folder, const std::string& part) {
  const std::string image_file = part + "-images-idx3-ubyte.gz";
  const std::string label_file = part + "-labels-idx1-ubyte.gz";
  IdxArray pixels = read_member(folder, image_file, 3);
  IdxArray labels = read_member(folder, label_file, 1);
  check(!pixels.values.empty(), ErrorCode::data, [&] {
    return str("'", folder, "/", image_file, "' holds no pixels (", pixels.sizes[0], " images of ", pixels.sizes[1],
               " x ", pixels.sizes[2], "); ", kDatasetRemedy);
  });
  check(pixels.sizes[0] == labels.sizes[0], ErrorCode::data, [&] {
    return str("'", folder, "/", label_file, "' has ", labels.sizes[0], " labels for the ", pixels.sizes[0],
               " images of '", image_file, "'; ", kDatasetRemedy);
  });
  const auto wrong = std::ranges::find_if(labels.values, [](uint8_t label) { return label >= kClasses; });
  check(wrong == labels.values.end(), ErrorCode::data, [&] {
    return str("'", folder, "/", label_file, "': label ", wrong - labels.values.begin(), " is ", int(*wrong),
               ", expected 0 to ", kClasses - 1, "; ", kDatasetRemedy);
  });
  return {pixels.sizes[0], pixels.sizes[1], pixels.sizes[2], std::move(pixels.values), std::move(labels.values)};
}

uint64_t hash_images(const Images& images, uint64_t seed) {
  const int64_t sizes[] = {images.count, images.height, images.width};
  uint64_t hash = XXH3_64bits_withSeed(sizes, sizeof sizes, seed);
  hash = XXH3_64bits_withSeed(images.pixels.data(), images.pixels.size(), hash);
  return XXH3_64bits_withSeed(images.labels.data(), images.labels.size(), hash);
}

}  // namespace

Dataset load_dataset(const std::string& folder) {
  Dataset dataset{load_images(folder, "train"), load_images(folder, "t10k")};
  const Images& train = dataset.train;
  const Images& test = dataset.test;
  check(train.height == test.height && train.width == test.width, ErrorCode::data, [&] {
    return str("'", folder, "' has training images of ", train.height, " x ", train.width, " and test images of ",
               test.height, " x ", test.width, ", expected equal sizes; ", kDatasetRemedy);
  });
  dataset.content_hash = hash_images(test, hash_images(train, 0));
  return dataset;
}

}  // namespace lockstep
