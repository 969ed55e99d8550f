// SPDX-License-Identifier: Apache-2.0
#include "runtime/data/dataset.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <utility>

#include "kernels/device/check.h"
#include "runtime/data/dataset_files.h"
#include "runtime/data/idx.h"

namespace lockstep {
namespace {

// `classes`: 0 for one more than the largest label. `why` says in a message where the number of classes comes from.
Images load_images(const std::string& image_file, const std::string& label_file, int64_t classes, const char* why) {
  IdxArray pixels = read_idx(image_file, 3);
  IdxArray labels = read_idx(label_file, 1);
  check(!pixels.values.empty(), ErrorCode::data, [&] {
    return str("'", image_file, "' holds no pixels (", pixels.sizes[0], " images of ", pixels.sizes[1], " x ",
               pixels.sizes[2], "); ", kDatasetRemedy);
  });
  check(pixels.sizes[0] == labels.sizes[0], ErrorCode::data, [&] {
    return str("'", label_file, "' has ", labels.sizes[0], " labels for the ", pixels.sizes[0], " images of '",
               image_file, "'; ", kDatasetRemedy);
  });
  if (classes == 0) classes = 1 + *std::ranges::max_element(labels.values);
  const auto wrong = std::ranges::find_if(labels.values, [&](uint8_t label) { return label >= classes; });
  check(wrong == labels.values.end(), ErrorCode::data, [&] {
    return str("'", label_file, "': label ", wrong - labels.values.begin(), " is ", int(*wrong), ", expected 0 to ",
               classes - 1, why, "; ", kDatasetRemedy);
  });
  return {pixels.sizes[0],          pixels.sizes[1],          pixels.sizes[2],
          std::move(pixels.values), std::move(labels.values), classes};
}

uint64_t hash_images(const Images& images, uint64_t seed) {
  const int64_t sizes[] = {images.count, images.height, images.width};
  uint64_t hash = XXH3_64bits_withSeed(sizes, sizeof sizes, seed);
  hash = XXH3_64bits_withSeed(images.pixels.data(), images.pixels.size(), hash);
  return XXH3_64bits_withSeed(images.labels.data(), images.labels.size(), hash);
}

}  // namespace

Dataset load_dataset(const std::string& where, int64_t classes) {
  check(classes >= 0 && classes <= kMostClasses, ErrorCode::usage,
        [&] { return str("--classes: expected 1 to ", kMostClasses, ", or 0 for those of the files, got ", classes); });
  const DatasetFiles files = find_dataset_files(where);
  const char* why = classes > 0 ? " by --classes" : " as in the labels of the training images";
  Images training = load_images(files.train_images, files.train_labels, classes, why);
  const int64_t found = training.classes;
  Dataset dataset{.train = std::move(training),
                  .test = load_images(files.test_images, files.test_labels, found, why),
                  .files = {files.train_images, files.train_labels, files.test_images, files.test_labels}};
  const Images& train = dataset.train;
  const Images& test = dataset.test;
  check(train.height == test.height && train.width == test.width, ErrorCode::data, [&] {
    return str("'", where, "' has training images of ", train.height, " x ", train.width, " and test images of ",
               test.height, " x ", test.width, ", expected equal sizes; ", kDatasetRemedy);
  });
  dataset.content_hash = hash_images(test, hash_images(train, 0));
  return dataset;
}

}  // namespace lockstep
