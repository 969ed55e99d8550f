// SPDX-License-Identifier: Apache-2.0
#include "kernels/conv2d_cpu.h"

#include <algorithm>

#include "kernels/conv2d_columns.h"
#include "kernels/parallel.h"

namespace lockstep {
namespace {

int64_t group_count(int64_t batch) { return (batch + kConv2dGroup - 1) / kConv2dGroup; }

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

Conv2d part_of(const Conv2d& op, int64_t group) {
  Conv2d part = op;
  part.in = group_of(op.in, group);
  part.out = group_of(op.out, group);
  return part;
}

Conv2dGradInput part_of(const Conv2dGradInput& op, int64_t group) {
  Conv2dGradInput part = op;
  part.d_in = group_of(op.d_in, group);
  part.d_out = group_of(op.d_out, group);
  return part;
}

Conv2dGradWeight part_of(const Conv2dGradWeight& op, int64_t group) {
  Conv2dGradWeight part = op;
  part.in = group_of(op.in, group);
  part.d_out = group_of(op.d_out, group);
  return part;
}

// Runs the groups of a batch on workers of one thread, each with scratch for its largest group.
template <class Op>
class Workers {
 public:
  Workers(const Stream& stream, const Op& op)
      : op_(op),
        groups_(group_count(conv2d_sizes(op).batch)),
        workers_(std::min<int64_t>(stream.threads(), groups_)),
        threads_(stream.threads()) {
    if (groups_ == 0) return;
    Stream worker = Stream::cpu();
    // All groups but the last are alike.
    for (const int64_t group : {int64_t(0), groups_ - 1})
      each_ = std::max(each_, scratch_piece(columns_scratch(worker, part_of(op, group))));
  }

  int64_t groups() const { return groups_; }
  int64_t scratch() const { return workers_ * each_; }

  // Calls f(group, its part of the convolution), which may change the part, and then computes the part.
  template <class F>
  void run(std::byte* scratch, const F& f) const {
    cpu::parallel_parts(threads_, workers_, [&](int64_t worker) {
      Stream stream = Stream::cpu();
      for (int64_t group = groups_ * worker / workers_; group < groups_ * (worker + 1) / workers_; ++group) {
        Op part = part_of(op_, group);
        f(group, part);
        conv2d_by_columns(stream, part, scratch + worker * each_);
      }
    });
  }

 private:
  const Op& op_;
  int64_t groups_, workers_, each_ = 0;
  int threads_;
};

// The sums of the groups lie in front of the scratch of the workers.
int64_t sums_bytes(const Conv2dGradWeight& op, int64_t groups) { return scratch_piece(groups * op.d_weight.bytes()); }

}  // namespace

int64_t groups_scratch(Stream& stream, const Conv2d& op) { return Workers(stream, op).scratch(); }
int64_t groups_scratch(Stream& stream, const Conv2dGradInput& op) { return Workers(stream, op).scratch(); }
int64_t groups_scratch(Stream& stream, const Conv2dGradWeight& op) {
  const Workers workers(stream, op);
  return sums_bytes(op, workers.groups()) + workers.scratch();
}

void conv2d_in_groups(Stream& stream, const Conv2d& op, std::byte* scratch) {
  Workers(stream, op).run(scratch, [](int64_t, Conv2d&) {});
}

void conv2d_in_groups(Stream& stream, const Conv2dGradInput& op, std::byte* scratch) {
  Workers(stream, op).run(scratch, [](int64_t, Conv2dGradInput&) {});
}

void conv2d_in_groups(Stream& stream, const Conv2dGradWeight& op, std::byte* scratch) {
  const Workers workers(stream, op);
  const int64_t groups = workers.groups(), size = op.d_weight.size();
  float* total = data<float>(op.d_weight);
  if (groups == 0) return static_cast<void>(std::fill_n(total, size, 0.0f));
  auto* sums = reinterpret_cast<float*>(scratch);
  workers.run(scratch + sums_bytes(op, groups),
              [&](int64_t group, Conv2dGradWeight& part) { part.d_weight.data = sums + group * size; });
  std::copy_n(sums, size, total);
  for (int64_t group = 1; group < groups; ++group) {
    const float* term = sums + group * size;
    for (int64_t i = 0; i < size; ++i) total[i] += term[i];
  }
}

int64_t scratch_bytes(Cpu, Stream& stream, const Conv2d& op) {
  if constexpr (config::onednn)
    if (const auto bytes = onednn::conv2d_scratch(stream, op)) return *bytes;
  return groups_scratch(stream, op);
}

int64_t scratch_bytes(Cpu, Stream& stream, const Conv2dGradInput& op) {
  if constexpr (config::onednn)
    if (const auto bytes = onednn::conv2d_scratch(stream, op)) return *bytes;
  return groups_scratch(stream, op);
}

int64_t scratch_bytes(Cpu, Stream& stream, const Conv2dGradWeight& op) { return groups_scratch(stream, op); }

void run(Cpu, Stream& stream, const Conv2d& op, std::byte* scratch) {
  if constexpr (config::onednn)
    if (onednn::conv2d(stream, op, scratch)) return;
  conv2d_in_groups(stream, op, scratch);
}

void run(Cpu, Stream& stream, const Conv2dGradInput& op, std::byte* scratch) {
  if constexpr (config::onednn)
    if (onednn::conv2d(stream, op, scratch)) return;
  conv2d_in_groups(stream, op, scratch);
}

void run(Cpu, Stream& stream, const Conv2dGradWeight& op, std::byte* scratch) { conv2d_in_groups(stream, op, scratch); }

}  // namespace lockstep
