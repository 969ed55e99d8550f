// SPDX-License-Identifier: Apache-2.0
#include "collectives/gradients/tree_sum.h"

#include <algorithm>
#include <atomic>
#include <bit>

#include "collectives/gradients/finite.h"
#include "kernels/device/check.h"
#include "kernels/parallel.h"

namespace lockstep {

namespace {

// Elements that go through the whole tree at a time, so that intermediate sums stay in the first-level cache.
constexpr int64_t kBlock = 1024;
constexpr int kMaxDepth = AdditionTree::kDepth;

int common_leaves(std::span<const LeafRange> owned, LeafRange subtree) {
  int leaves = 0;
  for (const LeafRange& range : owned)
    leaves += std::max(0, std::min(range.end, subtree.end) - std::max(range.begin, subtree.begin));
  return leaves;
}

// Visits the largest subtrees of `subtree` whose leaves are all owned, ascending.
template <class Visit>
void for_each_owned(std::span<const LeafRange> owned, LeafRange subtree, const Visit& visit) {
  const int common = common_leaves(owned, subtree);
  if (common == 0) return;
  if (common == subtree.size()) return visit(subtree);
  const int middle = subtree.begin + left_leaves(subtree.size());
  for_each_owned(owned, {subtree.begin, middle}, visit);
  for_each_owned(owned, {middle, subtree.end}, visit);
}

// What sums keep of a float, depending on their dtype.
struct All {
  static float of(float x) { return x; }
};
struct Bf16 {
  static float of(float x) { return float(bfloat16(x)); }
};

// Inputs are leaves, or sums, which rounding does not change.
template <class Kept>
void add(float* out, const float* a, const float* b, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) out[i] = Kept::of(Kept::of(a[i]) + Kept::of(b[i]));
}

template <class Kept>
void keep(float* out, const float* in, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) out[i] = Kept::of(in[i]);
}

// Calls f(begin, n) for blocks that cover [0, n).
template <class F>
void for_each_block(int64_t n, int threads, const F& f) {
  const auto range = [&](int64_t begin, int64_t end) {
    for (; begin < end; begin += kBlock) f(begin, std::min(kBlock, end - begin));
  };
  if (n < cpu::kParallelElements) {
    range(0, n);
  } else {
    cpu::parallel_ranges(threads, n, kBlock, range);
  }
}

}  // namespace

LeafRange leaves_of(int rank, int ranks, int leaves) {
  const auto border = [&](int64_t r) { return int(r * leaves / ranks); };
  return {border(rank), border(rank + 1)};
}

int left_leaves(int leaves) { return int(std::bit_ceil(unsigned(leaves)) / 2); }

std::vector<LeafRange> maximal_subtrees(int leaves, std::span<const LeafRange> owned) {
  std::vector<LeafRange> found;
  for_each_owned(owned, {0, leaves}, [&](LeafRange subtree) { found.push_back(subtree); });
  return found;
}

int sums_held(int leaves, LeafRange owned) {
  int count = 0;
  for_each_owned({&owned, 1}, {0, leaves}, [&](LeafRange) { ++count; });
  return count;
}

TreeSum::TreeSum(LeafRange whole, std::span<const LeafRange> inputs, DType dtype)
    : inputs_(inputs.size()), dtype_(dtype) {
  check(dtype == DType::f32 || dtype == DType::bf16, ErrorCode::internal,
        [&] { return str("sums are kept in f32 or bf16, not ", to_string(dtype)); });
  plan(whole, inputs, 1);
  check(program_.size() == 2 * inputs_ - 1, ErrorCode::internal,
        [&] { return str(inputs_, " subtrees do not make up leaves ", whole.begin, " to ", whole.end - 1); });
}

void TreeSum::plan(LeafRange subtree, std::span<const LeafRange> inputs, int depth) {
  check(depth < kMaxDepth, ErrorCode::plan,
        [&] { return str("at most ", 1 << (kMaxDepth - 2), " leaves can be summed"); });
  const auto input = std::ranges::find(inputs, subtree);
  if (input != inputs.end()) {
    program_.push_back(int(input - inputs.begin()));
    return;
  }
  check(subtree.size() > 1, ErrorCode::internal, [&] { return str("nobody holds leaf ", subtree.begin); });
  const int middle = subtree.begin + left_leaves(subtree.size());
  plan({subtree.begin, middle}, inputs, depth + 1);
  plan({middle, subtree.end}, inputs, depth + 1);
  program_.push_back(kAdd);
}

std::vector<TreeSum::Addition> TreeSum::additions() const {
  std::vector<Addition> additions;
  std::vector<int> stack;
  for (const int step : program_) {
    if (step != kAdd) {
      stack.push_back(step);
      continue;
    }
    const int from = stack.back();
    stack.pop_back();
    additions.push_back({stack.back(), from});
  }
  return additions;
}

AdditionTree TreeSum::for_kernel() const {
  check(inputs_ <= size_t(AdditionTree::kMostInputs), ErrorCode::internal,
        [&] { return str("a kernel adds up to ", AdditionTree::kMostInputs, " inputs, got ", inputs_); });
  AdditionTree tree;
  for (const int step : program_)
    tree.steps[size_t(tree.count++)] = step == kAdd ? AdditionTree::kAdd : static_cast<int8_t>(step);
  return tree;
}

void TreeSum::run(float* out, std::span<const float* const> inputs, int64_t n, int threads) const {
  if (nothing_to_add(out, inputs)) return;
  for_each_block(n, threads, [&](int64_t begin, int64_t size) { run_block(out, inputs, begin, size); });
}

bool TreeSum::run_and_look(float* out, std::span<const float* const> inputs, int64_t n, int threads) const {
  const bool adds = !nothing_to_add(out, inputs);
  std::atomic<bool> finite = true;
  for_each_block(n, threads, [&](int64_t begin, int64_t size) {
    if (adds) run_block(out, inputs, begin, size);
    if (!all_finite(out + begin, size)) finite.store(false, std::memory_order_relaxed);
  });
  return finite;
}

void TreeSum::run_block(float* out, std::span<const float* const> inputs, int64_t begin, int64_t n) const {
  dtype_ == DType::f32 ? run_block_as<All>(out, inputs, begin, n) : run_block_as<Bf16>(out, inputs, begin, n);
}

template <class Kept>
void TreeSum::run_block_as(float* out, std::span<const float* const> inputs, int64_t begin, int64_t n) const {
  alignas(64) float scratch[kMaxDepth][kBlock];
  const float* stack[kMaxDepth];
  int top = 0;
  for (size_t step = 0; step < program_.size(); ++step) {
    if (program_[step] != kAdd) {
      stack[top++] = inputs[size_t(program_[step])] + begin;
      continue;
    }
    top -= 2;
    float* sum = step + 1 == program_.size() ? out + begin : scratch[top];
    add<Kept>(sum, stack[top], stack[top + 1], n);
    stack[top++] = sum;
  }
  if (program_.size() == 1) keep<Kept>(out + begin, stack[0], n);
}

}  // namespace lockstep
