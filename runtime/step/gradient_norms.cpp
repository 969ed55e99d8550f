// SPDX-License-Identifier: Apache-2.0
#include "runtime/step/gradient_norms.h"

#include <algorithm>
#include <memory>

#include "kernels/chunk_squares.h"
#include "kernels/device/upload.h"
#include "kernels/parallel.h"

namespace lockstep {

GradientNorms::GradientNorms(Communicator& ranks, const Plan& plan, Pool& pool, Stream& stream)
    : place_(ranks.place()), pool_(pool), arena_elements_(plan.arena_elements), threads_(stream.threads()) {
  std::vector<int64_t> begins, ends, first_chunk{0};
  for (const PlannedVariable& variable : plan.variables) {
    if (!variable.in_gradient_sync) continue;
    const SquareChunks chunks{variable.local_elements};
    for (int64_t chunk = 0; chunk < chunks.count(); ++chunk) {
      begins.push_back(variable.offset + chunks.begin(chunk));
      ends.push_back(variable.offset + chunks.end(chunk));
      longest_ = std::max(longest_, ends.back() - begins.back());
      chunks_.push_back({size_t(variable.bucket), {begins.back(), ends.back()}});
    }
    first_chunk.push_back(int64_t(chunks_.size()));
  }
  first_chunk_ = upload(first_chunk, pool, stream);
  squares_ = upload(std::vector<double>(first_chunk.size() - 1), pool, stream);
  if (pool.device().kind == DeviceKind::cpu) {
    window_ = ranks.allocate_shared(window_bytes());
    pool_.enter(Purpose::gradients, window_bytes());
    gathered_ = std::make_unique_for_overwrite<float[]>(size_t(threads_ * longest_));
  } else {
    chunk_squares_ = upload(std::vector<double>(chunks_.size()), pool, stream);
    begins_ = upload(begins, pool, stream);
    ends_ = upload(ends, pool, stream);
  }
  stream.synchronize();  // the vectors go out of scope
}

GradientNorms::~GradientNorms() {
  if (window_) pool_.enter(Purpose::gradients, -window_bytes());
}

int64_t GradientNorms::window_bytes() const {
  return place_.local_rank == 0 ? int64_t(chunks_.size() * sizeof(double)) : 0;
}

void GradientNorms::measure(GradientReducer& reducer, Stream& stream) {
  if (window_) return measure_on_host(reducer, stream);
  const Shape chunks{int64_t(chunks_.size())};
  launch(stream, ChunkSquares{.sums = chunk_squares_.view(DType::f64, chunks),
                              .values = reducer.sums({0, arena_elements_}),
                              .begins = begins_.view(DType::i64, chunks),
                              .ends = ends_.view(DType::i64, chunks)});
  add_up_chunks(chunk_squares_.data(), stream);
}

void GradientNorms::add_up_chunks(const void* chunks, Stream& stream) {
  const DeviceKind device = stream.device().kind;
  const int64_t variables = squares_.bytes() / size_of(DType::f64);
  launch(stream, SumsOfChunks{.sums = squares_.view(DType::f64, Shape{variables}),
                              .chunks = {chunks, DType::f64, device, Shape{int64_t(chunks_.size())}},
                              .first_chunk = first_chunk_.view(DType::i64, Shape{variables + 1})});
}

void GradientNorms::measure_on_host(GradientReducer& reducer, Stream& stream) {
  reducer.meet();  // chunks reach into slices of other ranks
  auto* cells = static_cast<double*>(window_->segment(0));
  const Range mine = part_of(int64_t(chunks_.size()), place_.local_rank, place_.local_size, 1);
  const int threads = mine.size() * kSquareChunk < cpu::kParallelElements ? 1 : threads_;
  const int64_t members = std::min<int64_t>(threads, mine.size());
  cpu::parallel_parts(threads, members, [&](int64_t member) {
    const Range part = part_of(mine.size(), member, members, 1);
    for (int64_t chunk = mine.begin + part.begin; chunk < mine.begin + part.end; ++chunk) {
      const auto& [bucket, elements] = chunks_[size_t(chunk)];
      const View scratch{gathered_.get() + member * longest_, DType::f32, DeviceKind::cpu, Shape{elements.size()}};
      Stream alone = Stream::cpu();
      const int64_t begin = 0, end = elements.size();
      const Shape one{1};
      launch(alone, ChunkSquares{.sums = {cells + chunk, DType::f64, DeviceKind::cpu, one},
                                 .values = reducer.gathered(bucket, elements, scratch, stream),
                                 .begins = {&begin, DType::i64, DeviceKind::cpu, one},
                                 .ends = {&end, DType::i64, DeviceKind::cpu, one}});
    }
  });
  reducer.meet();  // updates clear what other ranks have read by now
  add_up_chunks(cells, stream);
}

}  // namespace lockstep
