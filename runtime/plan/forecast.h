// SPDX-License-Identifier: Apache-2.0
// Forecasts how long the communication of a planned step takes: the alpha-beta model over a machine profile.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/plan/buckets.h"
#include "runtime/plan/plan.h"

namespace lockstep {

// The cost of a message: a latency, and a time for each byte.
struct LinkCost {
  double alpha_seconds = 0;
  double seconds_per_byte = 0;
};

struct MachineProfile {
  std::string name;
  LinkCost node;              // between ranks of one node
  LinkCost network;           // between nodes
  double flops_per_rank = 0;  // multiply-adds count two; 0: not known
};

// The built-in profiles. A forecast from one is an estimate from published figures; `lockstep plan --verify` fits a
// profile to the machine it runs on.
std::vector<MachineProfile> machine_profiles();
// Throws Error(usage) with the nearest known name.
MachineProfile machine_profile(const std::string& name);

// The ranks of one group of an axis: how many there are, and on how many nodes.
struct GroupShape {
  int64_t ranks = 1;
  int64_t per_node = 1;  // ranks of this group on one node
  int64_t nodes() const { return (ranks + per_node - 1) / per_node; }
};
GroupShape group_shape(const PlanSettings& settings, const MeshAxis& axis);

// Seconds of one collective whose operand has `bytes`, with the costs of Thakur, Rabenseifner and Gropp 2005 (P ranks,
// n bytes): ring reduce-scatter and all-gather take (P-1) alpha + (P-1)/P n beta, an all-reduce both; recursive halving
// takes ceil(log2 P) alpha; the cheaper of ring and halving counts. On several nodes: inside the node, across, inside.
double collective_seconds(CollectiveKind kind, int64_t bytes, const GroupShape& group, const MachineProfile& profile);

// Fits alpha and beta to the times of one collective at two sizes in a group of `ranks` ranks on one node. Throws
// Error(numbers) when the larger one did not take longer.
LinkCost fit_link(CollectiveKind kind, int64_t ranks, int64_t small_bytes, double small_seconds, int64_t large_bytes,
                  double large_seconds);

// The share of an all-reduce of `bytes` that is latency.
double latency_share(int64_t bytes, const GroupShape& group, const MachineProfile& profile);

// The size of bucket at which latency is a fifth of an all-reduce, in whole MiB and within 25 to 64 MiB: smaller
// buckets lose more to latency, larger ones begin later and overlap less of the backward pass.
int64_t bucket_bytes_for(const GroupShape& group, const MachineProfile& profile);

// What buckets hold where nobody says: for ranks with memory of their own bucket_bytes_for() the profile h200; ranks
// that share memory have next to no latency and sum 4 MiB at a time, which caches hold.
int64_t default_bucket_bytes(const PlanSettings& settings);
// Why buckets of a plan are as large as they are, for people: "buckets close at 42.0 MiB, where latency is ...".
std::string bucket_reason(const PlanSettings& settings);

struct StepForecast {
  double communication_seconds = 0;  // all collectives of a step, one after the other
  double exposed_seconds = 0;        // what the backward pass does not hide
  double compute_seconds = 0;        // 0: not known
  double seconds() const { return compute_seconds + exposed_seconds; }
};
// Gradient sums of ranks with their own memory overlap the backward pass, which is two thirds of the computing; CPU
// ranks that share a node's memory sum after it.
StepForecast forecast_step(const PlanSettings& settings, const std::vector<PlannedBucket>& buckets,
                           const MachineProfile& profile);

}  // namespace lockstep
