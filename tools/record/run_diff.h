// SPDX-License-Identifier: Apache-2.0
// `lockstep diff`: where two runs that ought to be equal part. It needs neither ranks nor a GPU.
#pragma once

#include <string>

namespace lockstep {

struct RunDifference {
  bool differs = false;
  std::string text;  // lines for people
};
// Compares everything that both runs have left: ledgers, metrics and records step by step, and the checkpoints of equal
// steps. Error(file, data) where they have left nothing of one kind.
RunDifference difference_of_runs(const std::string& a, const std::string& b);

}  // namespace lockstep
