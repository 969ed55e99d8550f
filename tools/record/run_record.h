// SPDX-License-Identifier: Apache-2.0
// `--record FILE`: what every part of the batch of every step came to, and every variable after it, by their hashes.
// `lockstep diff` finds in two such files where two runs part.
//
//   {"format":"lockstep record","version":1,"trained":["dense_1/weight",...],"variables":["dense_1/weight",...]}
//   {"step":0,"ranks":2,"data":"HASH","parts":[{"part":0,"rank":0,"samples":[7,...],"loss":"0x1.8p+4",
//     "gradients":["HASH",...]},...],"state":["HASH",...]}
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "collectives/communicator.h"
#include "runtime/files/line_file.h"
#include "runtime/state/variable_store.h"
#include "runtime/step/audit/part_record.h"

namespace lockstep {

inline constexpr std::string_view kRecordFormat = "lockstep record";

class RunRecord {
 public:
  // Rank 0 opens the file. Of the lines that are there, those of steps before `first_step` stay. Error(file),
  // Error(data) for a file that is no record of such a run.
  RunRecord(Communicator& ranks, const VariableStore& variables, const std::string& path, int64_t first_step,
            std::chrono::milliseconds patience);

  // Collective, after a step.
  void write(int64_t step, uint64_t data_hash, const std::vector<PartFacts>& mine);

 private:
  std::string header() const;

  Communicator& ranks_;
  const VariableStore& variables_;
  std::optional<LineFile> file_;  // rank 0's
};

}  // namespace lockstep
