// SPDX-License-Identifier: Apache-2.0
#include "runtime/data/tokens/token_loader.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>

#include "kernels/device/check.h"

namespace lockstep {
namespace {

const TokenLoaderSettings& checked(const TokenLoaderSettings& s) {
  check(s.batch >= 1 && s.prefetch >= 1 && s.first_step >= 0 && s.first_step <= s.steps, ErrorCode::usage, [&] {
    return str("expected a batch and a prefetch depth of at least 1 and a first step from 0 to the last, got ", s.batch,
               ", ", s.prefetch, ", and step ", s.first_step, " of ", s.steps);
  });
  check(s.first_part >= 0 && s.first_part <= s.end_part && s.end_part <= s.virtual_ranks, ErrorCode::internal, [&] {
    return str("expected parts within 0 .. ", s.virtual_ranks, ", got ", s.first_part, " .. ", s.end_part);
  });
  return s;
}

TokenBatch empty_batch(const TokenLoaderSettings& settings) {
  TokenBatch batch;
  batch.parts.resize(size_t(settings.end_part - settings.first_part));
  return batch;
}

}  // namespace

TokenLoader::TokenLoader(const TokenDataset& data, const TokenLoaderSettings& settings)
    : data_(data),
      settings_(checked(settings)),
      order_(data.samples(), settings.seed, settings.shuffle),
      prefetcher_(settings.first_step, settings.steps, settings.prefetch, empty_batch(settings),
                  [this](TokenBatch& batch, int64_t step) { prepare(batch, step); }) {}

void TokenLoader::prepare(TokenBatch& batch, int64_t step) {
  const BatchPlace place = batch_at(step, data_.samples(), settings_.batch);
  const int64_t* samples = order_.of(place.epoch).data() + place.positions.begin;
  batch.step = step;
  batch.epoch = place.epoch;
  batch.global_count = place.positions.count();
  batch.data_hash = XXH3_64bits(samples, size_t(batch.global_count) * sizeof(int64_t));
  const size_t length = size_t(data_.sequence_length());
  for (size_t i = 0; i < batch.parts.size(); ++i) {
    TokenPart& part = batch.parts[i];
    part.number = settings_.first_part + int64_t(i);
    const SampleRange range = part_range(batch.global_count, settings_.virtual_ranks, part.number);
    part.count = range.count();
    part.samples.assign(samples + range.begin, samples + range.end);
    part.tokens.resize(size_t(part.count) * length);
    part.targets.resize(size_t(part.count) * length);
    for (size_t s = 0; s < size_t(part.count); ++s)
      data_.read(part.samples[s], std::span(part.tokens).subspan(s * length, length),
                 std::span(part.targets).subspan(s * length, length));
  }
}

int64_t samples_of_batch(int64_t tokens, int64_t sequence_length) {
  const int64_t samples = std::max<int64_t>(1, (tokens + sequence_length / 2) / sequence_length);
  check(tokens == samples * sequence_length, ErrorCode::usage, [&] {
    return str("a batch of ", tokens, " tokens is no number of samples of ", sequence_length, "; use ",
               samples * sequence_length);
  });
  return samples;
}

}  // namespace lockstep
