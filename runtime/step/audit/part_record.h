// SPDX-License-Identifier: Apache-2.0
// What each part of a batch has come to, bit by bit: its loss, and a hash of the gradient of every variable before
// ranks add gradients up. Parts are functions of weights, samples and step alone, whoever computes them, so two runs or
// two ranks that ought to agree can be compared by them, and the first difference names part, variable and rank.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/device/memory.h"
#include "kernels/device/transfer.h"
#include "kernels/step_cells.h"
#include "runtime/data/step_input.h"
#include "runtime/plan/plan.h"

namespace lockstep {

struct PartFacts {
  int part = 0;
  std::vector<int64_t> samples;     // their numbers in the data
  double loss = 0;                  // the sum over its samples
  std::vector<uint64_t> gradients;  // of the trained variables, in the order of the plan
  friend bool operator==(const PartFacts&, const PartFacts&) = default;
};

// Collects them on one rank.
class PartRecord {
 public:
  // `trained`: numbers of variables in the plan. Both outlive it.
  PartRecord(const Plan& plan, std::span<const int32_t> trained, Pool& pool, Stream& stream);

  // Called with the parts of a step in memory of the host, before the first is computed.
  void begin_step(std::span<const BatchPart> parts);
  // `gradient`, [elements] f32 on the device, has become final for variable `number` among the trained, in part number
  // `part` of the batch. Queued on the stream.
  void enter(int part, int32_t number, const ConstView& gradient);
  // Called when all parts are computed; `cells` hold their losses. Waits for the stream.
  void end_step(const StepCells& cells);
  const std::vector<PartFacts>& facts() const { return facts_; }

 private:
  Pool& pool_;
  Stream& stream_;
  std::vector<int64_t> first_chunk_;  // of each trained variable, and behind the last
  Buffer sums_;                       // [parts, chunks] i64, on the device
  PinnedBuffer fetched_;
  std::vector<PartFacts> facts_;
};

}  // namespace lockstep
