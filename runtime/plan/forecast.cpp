// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan/forecast.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "kernels/device/check.h"
#include "kernels/device/known_name.h"
#include "runtime/plan/plan_text.h"

namespace lockstep {
namespace {

constexpr int64_t kLeastBucket = 25 << 20, kMostBucket = 64 << 20, kBucketInCaches = 4 << 20;
constexpr double kLatencyShare = 0.2;
constexpr const char* kProfileOfGpus = "h200";

// Of the ranks among which gradients are summed.
GroupShape batch_shape(const PlanSettings& settings) {
  return group_shape(settings, {settings.batch_axis, int(settings.batch_ranks())});
}

double halvings(int64_t ranks) { return double(std::bit_width(uint64_t(ranks - 1))); }

// Reduce-scatter and all-gather cost the same; an all-reduce is one of each.
double half_all_reduce(double bytes, int64_t ranks, const LinkCost& link) {
  if (ranks <= 1) return 0;
  const double rounds = std::min(double(ranks - 1), halvings(ranks));
  return rounds * link.alpha_seconds + double(ranks - 1) / double(ranks) * bytes * link.seconds_per_byte;
}

}  // namespace

std::vector<MachineProfile> machine_profiles() {
  return {
      // Eight GPUs per node, NVLink at 450 GB/s per direction, one 400 Gb/s card per GPU; half of the dense bf16 peak.
      {"h200", {8e-6, 1 / 400e9}, {20e-6, 1 / 45e9}, 450e12},
      // NVLink at 300 GB/s per direction, 200 Gb/s per GPU.
      {"a100", {8e-6, 1 / 250e9}, {20e-6, 1 / 22e9}, 150e12},
      // CPU ranks that share memory; 10 Gb/s between nodes.
      {"cpu", {3e-6, 1 / 8e9}, {50e-6, 1 / 1.1e9}, 50e9},
  };
}

MachineProfile machine_profile(const std::string& name) {
  const std::vector<MachineProfile> all = machine_profiles();
  std::vector<std::string_view> known;
  for (const MachineProfile& profile : all) {
    if (profile.name == name) return profile;
    known.push_back(profile.name);
  }
  fail_unknown("machine profile", name, known, list_of(known));
}

GroupShape group_shape(const PlanSettings& settings, const MeshAxis& axis) {
  int64_t stride = 1;
  for (size_t i = settings.mesh.size(); i-- > 0 && settings.mesh[i].name != axis.name;) stride *= settings.mesh[i].size;
  if (settings.ranks_per_node == 0) return {axis.size, axis.size};
  return {axis.size, std::clamp<int64_t>(settings.ranks_per_node / stride, 1, axis.size)};
}

double collective_seconds(CollectiveKind kind, int64_t bytes, const GroupShape& group, const MachineProfile& profile) {
  const double n = double(bytes);
  const double inside = half_all_reduce(n, group.per_node, profile.node);
  const double across = half_all_reduce(n / double(group.per_node), group.nodes(), profile.network);
  return (kind == CollectiveKind::all_reduce ? 2 : 1) * (inside + across);
}

LinkCost fit_link(CollectiveKind kind, int64_t ranks, int64_t small_bytes, double small_seconds, int64_t large_bytes,
                  double large_seconds) {
  check(ranks > 1 && large_bytes > small_bytes && large_seconds > small_seconds && small_seconds > 0,
        ErrorCode::numbers, [&] {
          return str("no machine profile can be fitted: a collective of ", large_bytes, " B took ", large_seconds,
                     " s among ", ranks, " ranks and one of ", small_bytes, " B took ", small_seconds,
                     " s; expected at least two ranks and more time for more bytes: measure on a calmer machine");
        });
  const double halves = kind == CollectiveKind::all_reduce ? 2 : 1;
  const double share = double(ranks - 1) / double(ranks);
  const double beta = (large_seconds - small_seconds) / (halves * share * double(large_bytes - small_bytes));
  const double rest = small_seconds - halves * share * double(small_bytes) * beta;
  const double rounds = std::min(double(ranks - 1), halvings(ranks));
  return {std::max(0.0, rest / (halves * rounds)), beta};
}

double latency_share(int64_t bytes, const GroupShape& group, const MachineProfile& profile) {
  const double all = collective_seconds(CollectiveKind::all_reduce, bytes, group, profile);
  return all > 0 ? collective_seconds(CollectiveKind::all_reduce, 0, group, profile) / all : 0;
}

int64_t bucket_bytes_for(const GroupShape& group, const MachineProfile& profile) {
  constexpr int64_t kMiB = 1 << 20;
  for (int64_t bytes = kLeastBucket; bytes < kMostBucket; bytes += kMiB)
    if (latency_share(bytes, group, profile) <= kLatencyShare) return bytes;
  return kMostBucket;
}

int64_t default_bucket_bytes(const PlanSettings& settings) {
  if (settings.copies == Copies::per_node) return kBucketInCaches;
  return bucket_bytes_for(batch_shape(settings), machine_profile(kProfileOfGpus));
}

std::string bucket_reason(const PlanSettings& settings) {
  const std::string size = str("buckets close at ", readable_bytes(settings.bucket_bytes));
  if (settings.copies == Copies::per_node)
    return size + (settings.bucket_bytes == kBucketInCaches
                       ? ", which caches hold: ranks that share memory have no latency to hide"
                       : ", as asked");
  const GroupShape shape = batch_shape(settings);
  const MachineProfile profile = machine_profile(kProfileOfGpus);
  const std::string percent = str(int(latency_share(settings.bucket_bytes, shape, profile) * 100 + 0.5),
                                  " % of an all-reduce among ", shape.ranks, " ranks on ", shape.nodes(),
                                  shape.nodes() == 1 ? " node" : " nodes", " by profile ", profile.name);
  if (settings.bucket_bytes != default_bucket_bytes(settings)) return str(size, ", as asked; latency is ", percent);
  return str(size, ": latency is ", percent, "; the size at which it is ", int(kLatencyShare * 100), " %, within ",
             readable_bytes(kLeastBucket), " to ", readable_bytes(kMostBucket));
}

StepForecast forecast_step(const PlanSettings& settings, const std::vector<PlannedBucket>& buckets,
                           const MachineProfile& profile) {
  StepForecast forecast;
  double gradients = 0, last_gradient = 0;
  int64_t gradient_collectives = 0;
  for_each_collective(settings, buckets, [&](const CollectiveSize& c) {
    const double once = collective_seconds(c.kind, c.bytes, group_shape(settings, *c.axis), profile);
    const double times = c.phase == Phase::micro_batch ? double(settings.accumulation) : 1;
    forecast.communication_seconds += times * once;
    if (c.bucket < 0 || c.kind == CollectiveKind::all_gather) return;
    gradients += times * once;
    last_gradient = once;
    ++gradient_collectives;
  });
  if (profile.flops_per_rank > 0)
    forecast.compute_seconds = settings.workload.flops_per_sample * double(settings.workload.batch) /
                               (double(settings.ranks()) * profile.flops_per_rank);
  forecast.exposed_seconds = forecast.communication_seconds;
  if (settings.copies == Copies::per_rank && gradient_collectives > 0) {
    // The first bucket is ready after its share of the backward pass, the last one when nothing is left to hide it.
    const double backward = forecast.compute_seconds * 2 / 3;
    const double hidden = backward * (1 - 1 / double(gradient_collectives));
    forecast.exposed_seconds += std::max(last_gradient, gradients - hidden) - gradients;
  }
  return forecast;
}

}  // namespace lockstep
