// SPDX-License-Identifier: Apache-2.0
#include "kernels/conv2d_cpu.h"

#include <algorithm>
#include <vector>

#include "kernels/conv2d_columns.h"
#include "kernels/parallel.h"

namespace lockstep {
namespace {

// Kept by the stream: one stream of one thread for each worker, with its columns, and the sums of the groups.
struct GroupWorkers {
  std::vector<Stream> streams;
  std::vector<float> sums;
};

int64_t group_count(int64_t batch) { return (batch + kConv2dGroup - 1) / kConv2dGroup; }

// f(stream of the worker, group) for every group of the batch.
template <class F>
void each_group(Stream& stream, int64_t batch, const F& f) {
  const int64_t groups = group_count(batch), workers = std::min<int64_t>(stream.threads(), groups);
  auto& streams = stream.state<GroupWorkers>().streams;
  while (int64_t(streams.size()) < workers) streams.push_back(Stream::cpu());
  cpu::parallel_parts(stream.threads(), workers, [&](int64_t worker) {
    for (int64_t group = groups * worker / workers; group < groups * (worker + 1) / workers; ++group)
      f(streams[size_t(worker)], group);
  });
}

// The images of one group.
template <class AnyView>
AnyView group_of(const AnyView& images, int64_t group) {
  const Shape& shape = images.shape;
  const int64_t first = group * kConv2dGroup, count = std::min(kConv2dGroup, shape[0] - first);
  const int64_t size = shape[1] * shape[2] * shape[3];
  AnyView part = slice(images, first * size, (first + count) * size);
  part.shape = Shape{count, shape[1], shape[2], shape[3]};
  return part;
}

}  // namespace

void conv2d_in_groups(Stream& stream, const Conv2d& op) {
  each_group(stream, conv2d_sizes(op).batch, [&](Stream& worker, int64_t group) {
    Conv2d part = op;
    part.in = group_of(op.in, group);
    part.out = group_of(op.out, group);
    conv2d_by_columns(worker, part);
  });
}

void conv2d_in_groups(Stream& stream, const Conv2dGradInput& op) {
  const Conv2dSizes sizes = conv2d_sizes("conv2d gradient", op.d_in, op.weight, op.d_out, op.geometry);
  each_group(stream, sizes.batch, [&](Stream& worker, int64_t group) {
    Conv2dGradInput part = op;
    part.d_in = group_of(op.d_in, group);
    part.d_out = group_of(op.d_out, group);
    conv2d_by_columns(worker, part);
  });
}

void conv2d_in_groups(Stream& stream, const Conv2dGradWeight& op) {
  const Conv2dSizes sizes = conv2d_sizes("conv2d gradient", op.in, op.d_weight, op.d_out, op.geometry);
  const int64_t groups = group_count(sizes.batch), size = op.d_weight.size();
  float* total = data<float>(op.d_weight);
  if (groups == 0) return static_cast<void>(std::fill_n(total, size, 0.0f));
  auto& sums = stream.state<GroupWorkers>().sums;
  if (int64_t(sums.size()) < groups * size) sums.resize(size_t(groups * size));
  each_group(stream, sizes.batch, [&](Stream& worker, int64_t group) {
    Conv2dGradWeight part = op;
    part.in = group_of(op.in, group);
    part.d_out = group_of(op.d_out, group);
    part.d_weight.data = sums.data() + group * size;
    conv2d_by_columns(worker, part);
  });
  std::copy_n(sums.data(), size, total);
  for (int64_t group = 1; group < groups; ++group) {
    const float* term = sums.data() + group * size;
    for (int64_t i = 0; i < size; ++i) total[i] += term[i];
  }
}

void run(Cpu, Stream& stream, const Conv2d& op) {
  if constexpr (config::onednn)
    if (onednn::conv2d(stream, op)) return;
  conv2d_in_groups(stream, op);
}

void run(Cpu, Stream& stream, const Conv2dGradInput& op) {
  if constexpr (config::onednn)
    if (onednn::conv2d(stream, op)) return;
  conv2d_in_groups(stream, op);
}

void run(Cpu, Stream& stream, const Conv2dGradWeight& op) { conv2d_in_groups(stream, op); }

}  // namespace lockstep
