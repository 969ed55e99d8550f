// SPDX-License-Identifier: Apache-2.0
// Faults on purpose, to rehearse what a run makes of them: `--inject kill@step=7,rank=1`.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "collectives/communicator.h"
#include "runtime/checkpoint/file_operations.h"

namespace lockstep {

class Stream;
class TrainStep;
class VariableStore;
struct Plan;

enum class FaultKind : uint8_t {
  kill,      // the process ends at once, as by SIGKILL
  stop,      // the process stops, as by SIGSTOP
  usr1,      // it gets SIGUSR1, by which batch systems announce the end of a job's time
  slow,      // every step from this one on, or this operation, takes `ms` longer
  enospc,    // an operation on a file of a checkpoint fails: no space
  eio,       // the same: an error of the disk
  mismatch,  // the rank enters a collective into its log that the others have not issued
  flip,      // a bit of a weight or of an optimizer's slot changes, in the copy that the rank uses
  nan,       // an element of the gradient that the rank computes first in the step becomes NaN
};
std::string_view to_string(FaultKind kind);

struct Fault {
  FaultKind kind = FaultKind::kill;
  int32_t life = 1;  // of a run that a supervisor starts again, in which it happens; 0: in every one
  int64_t rank = 0;
  std::optional<int64_t> step;       // before this step is taken
  std::optional<int64_t> operation;  // this operation on files of checkpoints that the rank makes, from 1 on
  int64_t milliseconds = 0;
  // Of flips and NaN.
  std::string variable = {};        // empty: the first trained one of the plan
  int64_t element = 0;              // counted row by row
  std::optional<int64_t> bit = {};  // from the lowest one on; none: the highest of a fraction
};

// "kill@step=7,rank=1", "enospc@operation=12", "slow@step=3,rank=0,ms=50",
// "flip@step=7,rank=1,variable=dense_1/weight,element=3,bit=30". Error(usage) says what was expected.
Fault parse_fault(const std::string& text);

// One rank's faults.
class FaultInjection {
 public:
  // `life`: of the run, from 1 on.
  FaultInjection(std::vector<Fault> faults, int rank, int life = 1);

  // What happens to the numbers of a run: Error(usage, plan) where there is no such variable, element or bit. All ranks
  // call it with the faults of all.
  static void check_numbers(const std::vector<Fault>& faults, const Plan& plan, int ranks, int life);

  // Where a step is about to be taken.
  struct Victim {
    Communicator& ranks;  // that take it
    VariableStore& variables;
    TrainStep& step;
    Stream& stream;
  };
  void before_step(int64_t step, const Victim& victim) const;
  // To be asked before every operation; empty where nothing is to happen to files.
  FileOperations::Before before_operation() const;

 private:
  std::vector<Fault> faults_;  // but for flips
  std::vector<Fault> flips_;   // of all ranks
  int rank_;
  std::shared_ptr<std::atomic<int64_t>> operations_ = std::make_shared<std::atomic<int64_t>>(0);
};

}  // namespace lockstep
