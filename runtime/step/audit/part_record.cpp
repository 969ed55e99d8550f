// SPDX-License-Identifier: Apache-2.0
#include "runtime/step/audit/part_record.h"

#include <algorithm>

#include "kernels/chunk_hashes.h"

namespace lockstep {

PartRecord::PartRecord(const Plan& plan, std::span<const int32_t> trained, Pool& pool, Stream& stream)
    : pool_(pool), stream_(stream), first_chunk_{0} {
  for (const int32_t variable : trained) {
    const int64_t elements = plan.variables[size_t(variable)].local_elements;
    first_chunk_.push_back(first_chunk_.back() + (elements + kHashChunk - 1) / kHashChunk);
  }
}

void PartRecord::begin_step(std::span<const BatchPart> parts) {
  facts_.clear();
  for (const BatchPart& part : parts) {
    const ConstView& ids = part.batch.sample_ids();
    const int64_t* numbers = part.batch.samples() > 0 && ids.data != nullptr ? data<int64_t>(ids) : nullptr;
    PartFacts facts{.part = part.number, .samples = {}, .gradients = {}};
    if (numbers != nullptr) facts.samples.assign(numbers, numbers + part.batch.samples());
    facts_.push_back(std::move(facts));
  }
  const int64_t bytes = std::max<int64_t>(1, std::ssize(facts_) * first_chunk_.back()) * size_of(DType::i64);
  if (sums_.bytes() >= bytes) return;
  sums_ = Buffer(pool_, bytes, Purpose::scratch);
  fetched_ = PinnedBuffer(pool_.device(), bytes);
}

void PartRecord::enter(int part, int32_t number, const ConstView& gradient) {
  const int64_t first = first_chunk_[size_t(number)], end = first_chunk_[size_t(number) + 1];
  const int64_t row = part - facts_.front().part;
  ConstView words = gradient;
  words.dtype = DType::i32;
  launch(stream_, ChunkHashes{.sums = {static_cast<int64_t*>(sums_.data()) + row * first_chunk_.back() + first,
                                       DType::i64, stream_.device().kind, Shape{end - first}},
                              .words = words});
}

void PartRecord::end_step(const StepCells& cells) {
  const int64_t chunks = first_chunk_.back();
  copy(stream_, fetched_.data(), sums_.data(), std::ssize(facts_) * chunks * size_of(DType::i64));
  for (PartFacts& facts : facts_) copy(stream_, &facts.loss, &cells.loss(facts.part), size_of(DType::f64));
  stream_.synchronize();
  const auto* sums = static_cast<const uint64_t*>(fetched_.data());
  for (PartFacts& facts : facts_) {
    facts.gradients.clear();
    for (size_t v = 0; v + 1 < first_chunk_.size(); ++v) {
      uint64_t sum = 0;
      for (int64_t c = first_chunk_[v]; c < first_chunk_[v + 1]; ++c) sum += sums[c];
      facts.gradients.push_back(sum);
    }
    sums += chunks;
  }
}

}  // namespace lockstep
