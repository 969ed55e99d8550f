// SPDX-License-Identifier: Apache-2.0
#include "kernels/chunk_hashes.h"

#include "kernels/backend.h"

namespace lockstep {
namespace {

template <class Word>
struct HashOfChunk {
  int64_t* sums;
  const Word* words;
  int64_t count, first;

  template <class Team>
  HOST_DEVICE void operator()(const Team& team, int64_t chunk) const {
    const int64_t begin = chunk * kHashChunk, left = count - begin;
    const Word* x = words + begin;
    const uint64_t number = uint64_t(first + begin);
    const uint64_t sum = team.template sum<uint64_t>(left < kHashChunk ? left : kHashChunk, [=](int64_t i) {
      return mixed_word(uint64_t(x[i]), number + uint64_t(i));
    });
    team.once([=, out = sums + chunk] { *out = int64_t(sum); });
  }
};

}  // namespace

void run(Backend, Stream& stream, const ChunkHashes& k) {
  const int64_t chunks = (k.words.size() + kHashChunk - 1) / kHashChunk;
  check(k.sums.size() == chunks, ErrorCode::internal,
        [&] { return str("hashes of chunks: expected room for ", chunks, " of them, got ", k.sums.size()); });
  const auto hash = [&]<class Word>(const Word* words) {
    backend::rowwise(stream, chunks, kHashChunk,
                     HashOfChunk<Word>{data<int64_t>(k.sums), words, k.words.size(), k.first});
  };
  if (k.words.dtype == DType::i64)
    hash(data<int64_t>(k.words));
  else
    hash(data<int32_t>(k.words));
}

}  // namespace lockstep
