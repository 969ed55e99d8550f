// SPDX-License-Identifier: Apache-2.0
#include "tools/training/tasks/evaluate_tokens.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "runtime/data/batch_upload.h"
#include "runtime/state/variable_store.h"

namespace lockstep {
namespace {

double loss_of_part(const JudgedModel& judged, const Batch& batch) {
  Context context(judged.stream, judged.pool, nullptr);
  context.set_values(judged.values);
  const Results results = judged.model.forward(context, batch);
  const HostValue losses(results.loss, judged.stream);
  const std::span<const float> values(data<float>(losses.view()), size_t(batch.samples()));
  return std::accumulate(values.begin(), values.end(), 0.0);
}

}  // namespace

std::optional<double> evaluate_tokens(const JudgedModel& judged, const TokenDataset& data, int64_t samples) {
  constexpr int64_t kPart = 4;  // samples; memory is then below that of a step
  const int64_t parts = (samples + kPart - 1) / kPart;
  const int64_t rank = judged.ranks.rank(), ranks = judged.ranks.size(), length = data.sequence_length();
  std::optional<BatchUpload> upload;
  if (judged.stream.device().kind == DeviceKind::cuda)
    upload.emplace(judged.stream, judged.pool, [](Event& event) { event.synchronize(); });
  // Every cell has one writer, so that the sum over ranks is exact.
  std::vector<double> sums(static_cast<size_t>(parts));
  std::vector<int32_t> tokens(size_t(kPart * length)), targets(tokens.size());
  std::vector<int64_t> numbers(static_cast<size_t>(kPart));
  const int64_t begin = rank * parts / ranks, end = (rank + 1) * parts / ranks, most = (parts + ranks - 1) / ranks;
  for (int64_t p = begin; p < begin + most; ++p) {
    if (judged.stop && judged.stop()) return std::nullopt;
    if (p >= end) continue;  // a rank with a part less asks as often as the others
    const int64_t first = p * kPart, count = std::min(kPart, samples - first);
    for (int64_t i = 0; i < count; ++i) {
      const size_t at = size_t(i * length), n = size_t(length);
      data.read(first + i, std::span(tokens).subspan(at, n), std::span(targets).subspan(at, n));
      numbers[size_t(i)] = first + i;
    }
    const Shape shape{count, length};
    BatchPart part{.number = 0,
                   .batch = Batch({{"tokens", ConstView{tokens.data(), DType::i32, DeviceKind::cpu, shape}},
                                   {"targets", ConstView{targets.data(), DType::i32, DeviceKind::cpu, shape}}},
                                  {numbers.data(), DType::i64, DeviceKind::cpu, Shape{count}})};
    if (upload) part = upload->bring({&part, 1}, 0).parts[0];
    sums[size_t(p)] = loss_of_part(judged, part.batch);
  }
  Stream host = Stream::cpu();
  judged.ranks.all_reduce(View{sums.data(), DType::f64, DeviceKind::cpu, Shape{parts}}, ReduceOp::sum, host).wait(host);
  return std::accumulate(sums.begin(), sums.end(), 0.0) / double(samples);
}

}  // namespace lockstep
