// SPDX-License-Identifier: Apache-2.0
#include "runtime/data/prefetch.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "kernels/device/check.h"

namespace lockstep {
namespace {

const LoaderSettings& checked(const Images& images, const LoaderSettings& s) {
  check(s.batch >= 1 && s.steps >= 0 && s.prefetch >= 1, ErrorCode::usage, [&] {
    return str("expected a batch and a prefetch depth of at least 1 and steps of at least 0, got ", s.batch, ", ",
               s.prefetch, " and ", s.steps);
  });
  check(s.first_part >= 0 && s.first_part <= s.end_part && s.end_part <= s.virtual_ranks, ErrorCode::internal, [&] {
    return str("expected parts within 0 .. ", s.virtual_ranks, ", got ", s.first_part, " .. ", s.end_part);
  });
  check(images.count >= 1 && int64_t(images.labels.size()) == images.count &&
            int64_t(images.pixels.size()) == images.count * images.pixels_each(),
        ErrorCode::data, [&] {
          return str("expected ", images.count, " images with ", images.pixels_each(), " pixels and a label each, got ",
                     images.pixels.size(), " pixels and ", images.labels.size(), " labels");
        });
  return s;
}

ImageBatch empty_batch(const LoaderSettings& settings) {
  ImageBatch batch;
  batch.parts.resize(size_t(settings.end_part - settings.first_part));
  return batch;
}

// It divides instead of multiplying by 1/255, which gives the nearest float to every pixel's value.
void scale_pixels(const uint8_t* __restrict pixels, float* __restrict out, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) out[i] = float(pixels[i]) / 255.0f;
}

}  // namespace

BatchLoader::BatchLoader(const Images& images, const LoaderSettings& settings)
    : images_(images),
      settings_(checked(images, settings)),
      order_(images.count, settings.seed, settings.shuffle),
      prefetcher_(0, settings.steps, settings.prefetch, empty_batch(settings),
                  [this](ImageBatch& batch, int64_t step) { prepare(batch, step); }) {}

void BatchLoader::prepare(ImageBatch& batch, int64_t step) {
  const BatchPlace place = batch_at(step, images_.count, settings_.batch);
  const int64_t* samples = order_.of(place.epoch).data() + place.positions.begin;
  batch.step = step;
  batch.epoch = place.epoch;
  batch.global_count = place.positions.count();
  batch.data_hash = XXH3_64bits(samples, size_t(batch.global_count) * sizeof(int64_t));
  for (size_t i = 0; i < batch.parts.size(); ++i) {
    batch.parts[i].number = settings_.first_part + int64_t(i);
    const SampleRange range = part_range(batch.global_count, settings_.virtual_ranks, batch.parts[i].number);
    fill(batch.parts[i], samples + range.begin, range.count());
  }
}

void BatchLoader::fill(ImagePart& part, const int64_t* samples, int64_t count) const {
  const int64_t pixels = images_.pixels_each();
  part.count = count;
  part.samples.assign(samples, samples + count);
  part.images.resize(size_t(count * pixels));
  part.labels.resize(size_t(count));
  for (int64_t i = 0; i < count; ++i) {
    const int64_t sample = samples[i];
    const uint8_t label = images_.labels[size_t(sample)];
    check(label < images_.classes, ErrorCode::data,
          [&] { return str("sample ", sample, " has label ", int(label), ", expected 0 to ", images_.classes - 1); });
    part.labels[size_t(i)] = label;
    scale_pixels(images_.pixels.data() + sample * pixels, part.images.data() + i * pixels, pixels);
  }
}

}  // namespace lockstep
