// SPDX-License-Identifier: Apache-2.0
#include "runtime/data/prefetch.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <numeric>

#include "kernels/device/check.h"
#include "kernels/device/start_thread.h"
#include "runtime/data/sample_order.h"

namespace lockstep {
namespace {

void check_settings(const Images& images, const LoaderSettings& s) {
  check(s.batch >= 1 && s.steps >= 0 && s.prefetch >= 1, ErrorCode::usage, [&] {
    return str("expected a batch and a prefetch depth of at least 1 and steps of at least 0, got ", s.batch, ", ",
               s.prefetch, " and ", s.steps);
  });
  check(s.first_part >= 0 && s.first_part <= s.end_part && s.end_part <= s.virtual_ranks, ErrorCode::internal, [&] {
    return str("expected leaves within 0 .. ", s.virtual_ranks, ", got ", s.first_part, " .. ", s.end_part);
  });
  check(images.count >= 1 && int64_t(images.labels.size()) == images.count &&
            int64_t(images.pixels.size()) == images.count * images.pixels_each(),
        ErrorCode::data, [&] {
          return str("expected ", images.count, " images with ", images.pixels_each(), " pixels and a label each, got ",
                     images.pixels.size(), " pixels and ", images.labels.size(), " labels");
        });
}

// It divides instead of multiplying by 1/255, which gives the nearest float to every pixel's value.
void scale_pixels(const uint8_t* __restrict pixels, float* __restrict out, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) out[i] = float(pixels[i]) / 255.0f;
}

}  // namespace

BatchLoader::BatchLoader(const Images& images, const LoaderSettings& settings) : images_(images), settings_(settings) {
  check_settings(images, settings);
  slots_.resize(size_t(settings.prefetch) + 1);
  for (ImageBatch& batch : slots_) batch.leaves.resize(size_t(settings.end_part - settings.first_part));
  order_.resize(size_t(images.count));
  thread_ = start_thread("the batches to come", [this] { prepare_all(); });
}

BatchLoader::~BatchLoader() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

const ImageBatch& BatchLoader::next() {
  std::unique_lock lock(mutex_);
  const int64_t step = handed_out_;
  check(step < settings_.steps, ErrorCode::internal,
        [&] { return str("expected at most ", settings_.steps, " batches to be asked for, got one more"); });
  changed_.wait(lock, [&] { return prepared_ > step || error_; });
  if (prepared_ <= step) std::rethrow_exception(error_);
  ++handed_out_;
  lock.unlock();
  changed_.notify_all();
  return slot(step);
}

void BatchLoader::prepare_all() {
  for (int64_t step = 0; step < settings_.steps; ++step) {
    {
      std::unique_lock lock(mutex_);
      // The slot of the batch in use, handed_out_ - 1, stays untouched.
      changed_.wait(lock, [&] { return stop_ || step < handed_out_ + settings_.prefetch; });
      if (stop_) return;
    }
    std::exception_ptr error;
    try {
      prepare(slot(step), step);
    } catch (...) {
      error = std::current_exception();
    }
    {
      const std::lock_guard lock(mutex_);
      if (error)
        error_ = error;
      else
        ++prepared_;
    }
    changed_.notify_all();
    if (error) return;
  }
}

void BatchLoader::prepare(ImageBatch& batch, int64_t step) {
  const BatchPlace place = batch_at(step, images_.count, settings_.batch);
  if (place.epoch != ordered_epoch_) {
    if (settings_.shuffle)
      shuffle_samples(settings_.seed, place.epoch, order_);
    else
      std::iota(order_.begin(), order_.end(), int64_t(0));
    ordered_epoch_ = place.epoch;
  }
  const int64_t* samples = order_.data() + place.positions.begin;
  batch.step = step;
  batch.epoch = place.epoch;
  batch.global_count = place.positions.count();
  batch.data_hash = XXH3_64bits(samples, size_t(batch.global_count) * sizeof(int64_t));
  for (size_t i = 0; i < batch.leaves.size(); ++i) {
    batch.leaves[i].leaf = settings_.first_part + int64_t(i);
    const SampleRange range = leaf_range(batch.global_count, settings_.virtual_ranks, batch.leaves[i].leaf);
    fill(batch.leaves[i], samples + range.begin, range.count());
  }
}

void BatchLoader::fill(ImagePart& leaf, const int64_t* samples, int64_t count) const {
  const int64_t pixels = images_.pixels_each();
  leaf.count = count;
  leaf.samples.assign(samples, samples + count);
  leaf.images.resize(size_t(count * pixels));
  leaf.labels.resize(size_t(count));
  for (int64_t i = 0; i < count; ++i) {
    const int64_t sample = samples[i];
    const uint8_t label = images_.labels[size_t(sample)];
    check(label < kClasses, ErrorCode::data,
          [&] { return str("sample ", sample, " has label ", int(label), ", expected 0 to ", kClasses - 1); });
    leaf.labels[size_t(i)] = label;
    scale_pixels(images_.pixels.data() + sample * pixels, leaf.images.data() + i * pixels, pixels);
  }
}

}  // namespace lockstep
