// SPDX-License-Identifier: Apache-2.0
// Prepares the batches of the next steps on its own thread while the current one is trained on.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include "runtime/data/dataset.h"

namespace lockstep {

// Makes the elements of vectors start on a cache line.
template <class T>
struct CacheLineAllocator {
  using value_type = T;
  static constexpr std::align_val_t kAlignment{64};
  CacheLineAllocator() = default;
  template <class U>
  CacheLineAllocator(const CacheLineAllocator<U>&) {}
  T* allocate(size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), kAlignment)); }
  void deallocate(T* memory, size_t) { ::operator delete(memory, kAlignment); }
  friend bool operator==(const CacheLineAllocator&, const CacheLineAllocator&) { return true; }
};
template <class T>
using AlignedVector = std::vector<T, CacheLineAllocator<T>>;

// The samples of one part of a batch.
struct ImagePart {
  int64_t leaf = 0;
  int64_t count = 0;               // may be 0 in a partial batch
  AlignedVector<float> images;     // [count, height, width], 0 to 1
  AlignedVector<int32_t> labels;   // [count]
  AlignedVector<int64_t> samples;  // [count], index in the data set, which keys dropout
};

struct ImageBatch {
  int64_t step = 0;
  int64_t epoch = 0;
  int64_t global_count = 0;  // samples of all parts of all ranks: the divisor of the mean loss
  std::vector<ImagePart> leaves;
  uint64_t data_hash = 0;  // hash of the global batch's samples in order, so equal on every rank
};

struct LoaderSettings {
  int64_t batch = 0;  // samples of the global batch, over all ranks
  int64_t steps = 0;
  uint64_t seed = 0;
  bool shuffle = true;  // otherwise each epoch is in the order of the data set
  int64_t virtual_ranks = 1;
  int64_t first_part = 0;  // this rank prepares parts [first_part, end_part) of the virtual_ranks
  int64_t end_part = 1;
  int64_t prefetch = 2;  // batches prepared ahead of the one in use
};

// Hands out steps 0, 1, ... settings.steps - 1. Memory is bounded by prefetch + 1 batches and reused. `images` must
// outlive the loader and not change. One thread calls next().
class BatchLoader {
 public:
  BatchLoader(const Images& images, const LoaderSettings& settings);
  BatchLoader(const BatchLoader&) = delete;
  BatchLoader& operator=(const BatchLoader&) = delete;
  ~BatchLoader();  // allowed at any moment, whatever the thread is doing

  // The batch is valid until the following next(). Throws what the thread threw, at the step it was thrown for.
  const ImageBatch& next();

 private:
  void prepare_all();
  void prepare(ImageBatch& batch, int64_t step);
  void fill(ImagePart& leaf, const int64_t* samples, int64_t count) const;
  ImageBatch& slot(int64_t step) { return slots_[size_t(step) % slots_.size()]; }

  const Images& images_;
  const LoaderSettings settings_;
  std::vector<ImageBatch> slots_;
  std::vector<int64_t> order_;  // order of epoch `ordered_epoch_`; only the thread touches these two and unlocked slots
  int64_t ordered_epoch_ = -1;

  std::mutex mutex_;  // guards the members below
  std::condition_variable changed_;
  int64_t prepared_ = 0;    // steps before this one are in their slots
  int64_t handed_out_ = 0;  // steps before this one went through next(); the last of them is in use
  bool stop_ = false;
  std::exception_ptr error_;

  std::thread thread_;  // last, so that it starts when all else is there
};

}  // namespace lockstep
