// SPDX-License-Identifier: Apache-2.0
#include "runtime/step/clip.h"

#include <algorithm>
#include <cmath>

#include "collectives/partition.h"
#include "kernels/backend_cpu.h"
#include "kernels/chunk_squares.h"

namespace lockstep {
namespace {

// The order of a Team (kernels/backend_cpu.h), for values that come in pieces: element i of a chunk goes to lane i
// modulo lanes, and lanes are folded by halves. A square of two floats is exact.
class ChunkSum {
 public:
  // The next elements.
  void add(const float* values, int64_t n) {
    while (n > 0) {
      const int64_t first = position_ % kLanes, width = std::min(n, kLanes - first);
      double* lanes = lanes_ + first;
#pragma omp simd
      for (int64_t j = 0; j < width; ++j) lanes[j] += double(values[j]) * double(values[j]);
      position_ += width;
      values += width;
      n -= width;
    }
  }
  double total() {
    for (int64_t half = kLanes / 2; half > 0; half /= 2)
#pragma omp simd
      for (int64_t j = 0; j < half; ++j) lanes_[j] += lanes_[j + half];
    return lanes_[0];
  }

 private:
  static constexpr int64_t kLanes = cpu::Team::kLanes;
  alignas(64) double lanes_[kLanes] = {};
  int64_t position_ = 0;
};

}  // namespace

void check_clip_options(const ClipOptions& options) {
  int chosen = 0;
  const auto look_at = [&](const char* name, double value) {
    check(std::isfinite(value) && value >= 0, ErrorCode::usage, [&] {
      return str(name, ": expected a number above 0 to clip gradients to, or 0 for no clipping, got ", value);
    });
    chosen += value > 0;
  };
  look_at("clipnorm", options.clipnorm);
  look_at("global_clipnorm", options.global_clipnorm);
  look_at("clipvalue", options.clipvalue);
  check(chosen <= 1, ErrorCode::usage, [&] {
    return str("expected at most one of clipnorm, global_clipnorm and clipvalue, got ", options.clipnorm, ", ",
               options.global_clipnorm, " and ", options.clipvalue, "; set the others to 0");
  });
}

SquareSums::SquareSums(Communicator& communicator, const Plan& plan, Pool& pool)
    : place_(communicator.place()), pool_(pool), sums_(plan.variables.size()) {
  for (size_t v = 0; v < plan.variables.size(); ++v) {
    const PlannedVariable& variable = plan.variables[v];
    if (!variable.in_gradient_sync) continue;
    const int64_t n = variable.shape.size();
    for (int64_t begin = 0; begin < n; begin += kSquareChunk)
      chunks_.push_back(
          {int32_t(v), variable.bucket, variable.offset + begin, variable.offset + std::min(n, begin + kSquareChunk)});
  }
  window_ = communicator.allocate_shared(window_bytes());
  pool_.enter(Purpose::gradients, window_bytes());
}

SquareSums::~SquareSums() { pool_.enter(Purpose::gradients, -window_bytes()); }

int64_t SquareSums::window_bytes() const {
  return place_.local_rank == 0 ? int64_t(chunks_.size() * sizeof(double)) : 0;
}

std::span<const double> SquareSums::run(GradientReducer& reducer, Stream& stream) {
  reducer.node_barrier();  // chunks reach into slices of other ranks
  auto* cells = static_cast<double*>(window_->segment(0));
  const Range mine = part_of(int64_t(chunks_.size()), place_.local_rank, place_.local_size, 1);
  const int threads = mine.size() * kSquareChunk < cpu::kParallelElements ? 1 : stream.threads();
  cpu::parallel_parts(threads, mine.size(), [&](int64_t part) {
    const Chunk& chunk = chunks_[size_t(mine.begin + part)];
    ChunkSum sum;
    reducer.visit_sums(size_t(chunk.bucket), chunk.begin, chunk.end,
                       [&](const float* values, int64_t n) { sum.add(values, n); });
    cells[mine.begin + part] = sum.total();
  });
  reducer.node_barrier();  // and updates clear what other ranks have read by now
  total_ = cpu::Team{}.sum<double>(int64_t(chunks_.size()), [&](int64_t c) { return cells[c]; });
  std::fill(sums_.begin(), sums_.end(), 0.0);
  for (size_t c = 0; c < chunks_.size(); ++c) sums_[size_t(chunks_[c].variable)] += cells[c];
  return sums_;
}

}  // namespace lockstep
