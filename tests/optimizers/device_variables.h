// SPDX-License-Identifier: Apache-2.0
// A flat parameter in memory of a device with all that a step takes there, and what the step decides by.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <random>
#include <vector>

#include "kernels/chunk_squares.h"
#include "kernels/device/memory.h"
#include "kernels/device/transfer.h"
#include "kernels/operand.h"
#include "optimizers/step_verdict.h"
#include "tests/optimizers/flat_variables.h"

namespace lockstep {

// Eighths in [-8, 8]: sums of their squares are exact in any order.
inline std::vector<float> eighths(int64_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::vector<float> values(static_cast<size_t>(n));
  for (float& x : values) x = float(int(random() % 129) - 64) / 8;
  return values;
}

// Memory of a device, the first GPU unless told otherwise, that the host fills and reads.
class DeviceMemory {
 public:
  explicit DeviceMemory(DeviceKind kind = DeviceKind::cuda)
      : stream_(kind == DeviceKind::cpu ? Stream::cpu() : Stream::cuda(0)), pool_(stream_.device()) {}

  template <class T>
  T* put(const std::vector<T>& values) {
    const auto bytes = int64_t(values.size() * sizeof(T));
    buffers_.emplace_back(pool_, std::max<int64_t>(bytes, 1), Purpose::data);
    auto* at = static_cast<T*>(buffers_.back().data());
    set(at, values);
    return at;
  }
  template <class T>
  void set(T* at, const std::vector<T>& values) {
    copy(stream_, at, values.data(), int64_t(values.size() * sizeof(T)));
    stream_.synchronize();
  }
  template <class T>
  std::vector<T> get(const T* at, size_t n) {
    std::vector<T> values(n);
    copy(stream_, values.data(), at, int64_t(n * sizeof(T)));
    stream_.synchronize();
    return values;
  }
  template <class T>
  T value(const T* at) {
    return get(at, 1)[0];
  }
  Stream& stream() { return stream_; }

 private:
  Stream stream_;
  Pool pool_;
  std::vector<Buffer> buffers_;
};

// An array `offset` elements behind an aligned address, with guards on both sides that nobody may write to.
template <class T>
class GuardedArray {
 public:
  GuardedArray(DeviceMemory& memory, const std::vector<T>& values, int64_t offset)
      : memory_(&memory), offset_(size_t(offset)), size_(values.size()) {
    std::vector<T> all(offset_, T(kGuard));
    all.insert(all.end(), values.begin(), values.end());
    all.resize(offset_ + size_ + kBehind, T(kGuard));
    base_ = memory.put(all);
  }
  View view() const { return {base_ + offset_, dtype_of<T>(), memory_->stream().device().kind, Shape{int64_t(size_)}}; }
  void set(const std::vector<T>& values) { memory_->set(base_ + offset_, values); }
  std::vector<T> get() const {
    const std::vector<T> all = memory_->get(base_, offset_ + size_ + kBehind);
    const auto is_guard = [](T x) { return float(x) == kGuard; };
    const auto begin = all.begin() + int64_t(offset_), end = begin + int64_t(size_);
    EXPECT_TRUE(std::all_of(all.begin(), begin, is_guard)) << "written in front of an operand";
    EXPECT_TRUE(std::all_of(end, all.end(), is_guard)) << "written behind an operand";
    return {begin, end};
  }

 private:
  static constexpr size_t kBehind = 9;
  static constexpr float kGuard = 77;
  DeviceMemory* memory_;
  size_t offset_, size_;
  T* base_ = nullptr;
};

// Values in a narrow dtype.
class NarrowArray {
 public:
  NarrowArray(DeviceMemory& memory, DType dtype, const std::vector<float>& values, int64_t offset) {
    if (dtype == DType::bf16)
      bf16_.emplace(memory, rounded<bfloat16>(values), offset);
    else
      f16_.emplace(memory, rounded<float16>(values), offset);
  }
  View view() const { return bf16_ ? bf16_->view() : f16_->view(); }
  std::vector<float> get() const { return bf16_ ? widened(bf16_->get()) : widened(f16_->get()); }

 private:
  template <class T>
  static std::vector<T> rounded(const std::vector<float>& values) {
    std::vector<T> all;
    for (const float x : values) all.push_back(T(x));
    return all;
  }
  template <class T>
  static std::vector<float> widened(const std::vector<T>& values) {
    std::vector<float> all;
    for (const T x : values) all.push_back(float(x));
    return all;
  }
  std::optional<GuardedArray<bfloat16>> bf16_;
  std::optional<GuardedArray<float16>> f16_;
};

// FlatVariables on the device, each array `offset` elements behind an aligned address.
class DeviceVariables {
 public:
  DeviceVariables(const Optimizer& optimizer, const FlatVariables& begun, int64_t offset = 0,
                  DeviceKind kind = DeviceKind::cuda)
      : optimizer_(optimizer),
        memory_(kind),
        param_(memory_, begun.param, offset),
        grad_(memory_, begun.grad, offset),
        state_{.iteration = memory_.put<int64_t>({0}),
               .learning_rate = memory_.put<double>({optimizer.learning_rate()}),
               .scalars = memory_.put(begun.scalars),
               .decision = memory_.put<StepScalars>({StepScalars{}}),
               .constants = memory_.put(std::vector<char>(size_t(optimizer.constants_bytes())))} {
    for (const std::vector<float>& slot : begun.slots) slots_.emplace_back(memory_, slot, offset);
  }

  // What later updates are given as well.
  void set_granules(const GranuleMap& granules) { granules_ = granules; }
  void add_working_copy(DType dtype = DType::bf16, int64_t offset = 0) {
    working_copy_.emplace(memory_, dtype, std::vector<float>(size_t(param_.view().size())), offset);
  }
  // From here on the parameter is kept in bf16 alone; granules as in granules.
  void round_stochastically(uint64_t seed, int64_t offset = 0) {
    narrow_param_.emplace(memory_, DType::bf16, param_.get(), offset);
    state_.seed = seed;
  }

  void set_gradient(const std::vector<float>& gradient) { grad_.set(gradient); }
  void prepare(const LearningRates& rates = {}, const StepVerdict* verdict = nullptr) {
    optimizer_.prepare(memory_.stream(), state_, rates, verdict);
  }
  void update() { update_range(0, param_.view().size()); }
  // Elements [begin, end); `begin` is that of a granule where there are granules.
  void update_range(int64_t begin, int64_t end) {
    const auto range = [&](const View& view) { return slice(view, begin, end); };
    std::vector<View> slots;
    for (const GuardedArray<float>& slot : slots_) slots.push_back(range(slot.view()));
    GranuleMap granules = granules_;
    if (granules.variable_of) granules.variable_of += begin / kGranule;
    granules.first += begin / kGranule;
    optimizer_.update(memory_.stream(), state_,
                      {.param = range(narrow_param_ ? narrow_param_->view() : param_.view()),
                       .grad = range(grad_.view()),
                       .slots = slots,
                       .working_copy = working_copy_ ? range(working_copy_->view()) : View{},
                       .granules = granules});
  }
  void step(const std::vector<float>& gradient, const LearningRates& rates = {}) {
    set_gradient(gradient);
    prepare(rates);
    update();
  }

  FlatVariables get() {
    FlatVariables flat(optimizer_, narrow_param_ ? narrow_param_->get() : param_.get());
    flat.grad = grad_.get();
    for (size_t i = 0; i < slots_.size(); ++i) flat.slots[i] = slots_[i].get();
    flat.scalars = memory_.get(state_.scalars, flat.scalars.size());
    return flat;
  }
  std::vector<float> working_copy() const { return working_copy_->get(); }
  View gradient() const { return grad_.view(); }
  int64_t iteration() { return memory_.value(state_.iteration); }
  double learning_rate() { return memory_.value(state_.learning_rate); }
  const StepState& state() const { return state_; }
  DeviceMemory& memory() { return memory_; }

 private:
  const Optimizer& optimizer_;
  DeviceMemory memory_;
  GuardedArray<float> param_, grad_;
  std::vector<GuardedArray<float>> slots_;
  StepState state_;
  GranuleMap granules_;
  std::optional<NarrowArray> working_copy_, narrow_param_;
};

// Variables one behind the other, each from a granule on, and what a step decides by.
class DecisionTables {
 public:
  DecisionTables(DeviceMemory& memory, const std::vector<int64_t>& sizes, StepScalars* decision) : memory_(memory) {
    std::vector<int64_t> begins, ends, first_chunk{0};
    for (const int64_t n : sizes) {
      const int64_t first = elements();
      const SquareChunks chunks{n};
      for (int64_t chunk = 0; chunk < chunks.count(); ++chunk) {
        begins.push_back(first + chunks.begin(chunk));
        ends.push_back(first + chunks.end(chunk));
      }
      first_chunk.push_back(int64_t(begins.size()));
      variable_of.insert(variable_of.end(), size_t((n + 31) / 32), uint32_t(firsts.size()));
      firsts.push_back(first);
    }
    chunks_ = Shape{int64_t(begins.size())};
    begins_ = memory.put(begins);
    ends_ = memory.put(ends);
    chunk_squares_ = memory.put(std::vector<double>(begins.size()));
    squares_ = memory.put(std::vector<double>(sizes.size()));
    first_chunk_ = memory.put(first_chunk);
    cells_ = memory.put(std::vector<double>(4));
    verdict = {.squares = squares_,
               .variables = int32_t(sizes.size()),
               .cells = {.values = cells_, .parts = 2, .sums = 1, .ranks = 0},
               .global_count = 8,
               .clip = ClipKind::none,
               .limit = 0,
               .factors = memory.put(std::vector<float>(sizes.size(), 1.0f)),
               .decision = decision,
               .outcome = memory.put<StepOutcome>({StepOutcome{}})};
    granules_ = {.variable_of = memory.put(variable_of), .factors = verdict.factors};
  }

  int64_t elements() const { return int64_t(32 * variable_of.size()); }
  GranuleMap granule_map() const { return granules_; }
  StepOutcome outcome() { return memory_.value(verdict.outcome); }

  // What comes before a decision: losses of two leaves of four samples, three right answers, and sums of squares.
  void measure(const View& gradient, double loss_sum = 6) {
    memory_.set(cells_, {loss_sum, 1, 2, 2});
    const auto view = [&](void* at, DType dtype) { return View{at, dtype, DeviceKind::cuda, chunks_}; };
    launch(memory_.stream(), ChunkSquares{.sums = view(chunk_squares_, DType::f64),
                                          .values = gradient,
                                          .begins = view(begins_, DType::i64),
                                          .ends = view(ends_, DType::i64)});
    const int64_t variables = int64_t(firsts.size());
    launch(memory_.stream(),
           SumsOfChunks{.sums = {squares_, DType::f64, DeviceKind::cuda, Shape{variables}},
                        .chunks = view(chunk_squares_, DType::f64),
                        .first_chunk = {first_chunk_, DType::i64, DeviceKind::cuda, Shape{variables + 1}}});
  }

  // Instead of measuring.
  void set_squares(const std::vector<double>& by_variable) { memory_.set(squares_, by_variable); }

  StepVerdict verdict;
  std::vector<uint32_t> variable_of;  // by granule
  std::vector<int64_t> firsts;        // elements, by variable

 private:
  DeviceMemory& memory_;
  GranuleMap granules_;
  Shape chunks_;
  int64_t *begins_ = nullptr, *ends_ = nullptr, *first_chunk_ = nullptr;
  double *chunk_squares_ = nullptr, *squares_ = nullptr, *cells_ = nullptr;
};

}  // namespace lockstep
