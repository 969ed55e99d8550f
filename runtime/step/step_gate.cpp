// SPDX-License-Identifier: Apache-2.0
#include "runtime/step/step_gate.h"

#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace lockstep {
namespace {

// A double holds whole numbers below 2^53: 24 bits of a verdict and 29 of a seal.
constexpr double kVerdicts = 1 << 24;
constexpr int kSealBits = 29;

double seal_of(uint64_t log, uint64_t plan, int64_t step) {
  uint64_t hash = log + plan * 0x9e3779b97f4a7c15u + uint64_t(step) * 0xc4ceb9fe1a85ec53u;
  hash = (hash ^ (hash >> 33)) * 0xff51afd7ed558ccdu;
  return double((hash ^ (hash >> 29)) >> (64 - kSealBits));
}

// What ranks show each other once they know that they differ.
struct SealedFacts {
  int64_t step = 0;
  uint64_t plan = 0;
  RecentCalls calls;
};

std::string bytes_of(const SealedFacts& facts) { return {reinterpret_cast<const char*>(&facts), sizeof facts}; }

}  // namespace

void StepGate::seal(const StepCells& cells) {
  if (ranks_.size() == 1) return;
  double& verdict = cells.verdict(ranks_.rank());
  check(verdict >= 0 && verdict < kVerdicts, ErrorCode::internal,
        [&] { return str("expected fewer than ", kVerdicts, " trained variables, got verdict ", verdict); });
  verdict += seal_of(ranks_.log().hash(), plan_hash_, step_) * kVerdicts;
}

void StepGate::pass(const StepCells& cells) const {
  if (ranks_.size() == 1) return;
  int different = 0;  // the first rank whose seal is not that of rank 0
  double first = 0;
  for (int rank = 0; rank < ranks_.size(); ++rank) {
    double& verdict = cells.verdict(rank);
    const double seal = std::floor(verdict / kVerdicts);
    verdict -= seal * kVerdicts;
    if (rank == 0) first = seal;
    if (different == 0 && seal != first) different = rank;
  }
  // All have seen the same seals, so all come here together.
  if (different > 0) refuse(different);
}

void StepGate::refuse(int other) const {
  const auto mine = std::make_unique<SealedFacts>();
  mine->step = step_;
  mine->plan = plan_hash_;
  if (const RecentCalls* recent = ranks_.log().recent())
    std::memcpy(static_cast<void*>(&mine->calls), static_cast<const void*>(recent), sizeof *recent);
  // Neighbours whose logs differ are refused by this already, in the same words.
  const std::vector<std::string> all = ranks_.all_gather_bytes(bytes_of(*mine));
  const auto a = std::make_unique<SealedFacts>(), b = std::make_unique<SealedFacts>();
  std::memcpy(static_cast<void*>(a.get()), all[0].data(), sizeof *a);
  std::memcpy(static_cast<void*>(b.get()), all[size_t(other)].data(), sizeof *b);
  const std::string rank_a = ranks_.describe(0), rank_b = ranks_.describe(other);
  std::string text = describe_mismatch(ranks_.log().name(), a->calls, rank_a, b->calls, rank_b);
  if (a->plan != b->plan) text = str("their plans have the hashes ", std::hex, a->plan, " and ", b->plan);
  if (a->step != b->step) text = str(rank_a, " is in step ", a->step, " and ", rank_b, " in step ", b->step);
  fail(ErrorCode::collective,
       str(rank_a, " and ", rank_b, " are not at the same point before the update of step ", step_,
           ", so nothing is updated: ", text.empty() ? "their collectives differ further back than is kept" : text,
           "; all ranks must issue the same collectives in the same order"));
}

}  // namespace lockstep
