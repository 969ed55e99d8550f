// SPDX-License-Identifier: Apache-2.0
// The gate of a step: before anything is updated, ranks with arenas in memory of the host find out whether all of them
// are in the same step of the same plan and have issued the same collectives. Neighbours on a node compare their logs
// whenever they meet; across nodes this is where they do. It costs no message and no byte: the cell of a rank's verdict
// has room for a seal of 29 bits.
#pragma once

#include <cstdint>

#include "collectives/communicator.h"
#include "kernels/step_cells.h"

namespace lockstep {

class StepGate {
 public:
  // `ranks` outlives it.
  StepGate(Communicator& ranks, uint64_t plan_hash) : ranks_(ranks), plan_hash_(plan_hash) {}

  void begin_step(int64_t step) { step_ = step; }
  // Puts the seal on this rank's verdict, a whole number in [0, 2^24), before the exchange of the step.
  void seal(const StepCells& cells);
  // Collective, behind that exchange: takes the seals off again. Where one differs every rank throws Error(collective),
  // which names two ranks and where they differ: plan, step, or the first collective with its places in the source.
  void pass(const StepCells& cells) const;

 private:
  [[noreturn]] void refuse(int other) const;

  Communicator& ranks_;
  uint64_t plan_hash_;
  int64_t step_ = -1;
};

}  // namespace lockstep
