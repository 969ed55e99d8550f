// SPDX-License-Identifier: Apache-2.0
#include "runtime/data/sample_order.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

#include "kernels/device/check.h"
#include "kernels/philox.h"

namespace lockstep {
namespace {

// The top 16 bits of the counter say what a number is for, so that shuffling shares none with dropout or initial
// values under the same seed.
constexpr uint64_t kPurposeShuffle = uint64_t(0x5355) << 48;

// The random numbers of one (seed, epoch), one after the other.
class Draws {
 public:
  Draws(uint64_t seed, int64_t epoch) : seed_(seed), counter_high_(kPurposeShuffle | uint64_t(epoch)) {}

  // Uniform in [0, bound). The high half of the product of 32 bits and `bound` is uniform once low halves below 2^32
  // mod bound are drawn again (Lemire, "Fast random integer generation in an interval", 2019).
  uint32_t below(uint32_t bound) {
    uint64_t product = uint64_t(next()) * bound;
    if (uint32_t(product) < bound) {
      const uint32_t surplus = (0u - bound) % bound;
      while (uint32_t(product) < surplus) product = uint64_t(next()) * bound;
    }
    return uint32_t(product >> 32);
  }

 private:
  uint32_t next() {
    if (used_ == 4) {
      block_ = philox4x32(seed_, counter_low_++, counter_high_);
      used_ = 0;
    }
    return block_.v[used_++];
  }

  uint64_t seed_;
  uint64_t counter_high_;
  uint64_t counter_low_ = 0;
  Philox4 block_{};
  int used_ = 4;
};

}  // namespace

void shuffle_samples(uint64_t seed, int64_t epoch, std::span<int64_t> order) {
  check(order.size() <= std::numeric_limits<uint32_t>::max(), ErrorCode::data,
        [&] { return str("expected fewer than 2^32 samples to shuffle, got ", order.size()); });
  check(epoch >= 0 && epoch < int64_t(1) << 48, ErrorCode::internal,
        [&] { return str("expected an epoch of 0 to 2^48 - 1, got ", epoch); });
  std::iota(order.begin(), order.end(), int64_t(0));
  Draws draws(seed, epoch);
  for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[draws.below(uint32_t(i))]);
}

std::span<const int64_t> EpochOrder::of(int64_t epoch) {
  if (epoch != epoch_) {
    if (shuffle_)
      shuffle_samples(seed_, epoch, order_);
    else
      std::iota(order_.begin(), order_.end(), int64_t(0));
    epoch_ = epoch;
  }
  return order_;
}

int64_t steps_per_epoch(int64_t samples, int64_t batch) {
  check(samples > 0 && batch > 0, ErrorCode::usage,
        [&] { return str("expected samples and a batch size of at least 1, got ", samples, " and ", batch); });
  return samples / batch + (samples % batch != 0);
}

BatchPlace batch_at(int64_t step, int64_t samples, int64_t batch) {
  const int64_t steps = steps_per_epoch(samples, batch);
  const int64_t begin = step % steps * batch;
  return {step / steps, {begin, begin + std::min(batch, samples - begin)}};
}

SampleRange part_range(int64_t count, int64_t parts, int64_t part) {
  return {part * count / parts, (part + 1) * count / parts};
}

}  // namespace lockstep
