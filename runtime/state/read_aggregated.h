// SPDX-License-Identifier: Apache-2.0
// Reads variables whose replicas differ by rank: the mean, sum or maximum over ranks, taken when asked for.
#pragma once

#include <string>
#include <vector>

#include "collectives/communicator.h"
#include "runtime/state/variable_store.h"

namespace lockstep {

struct AggregatedValue {
  std::string path;
  Aggregation aggregation;
  std::vector<double> values;  // integers are exact up to 2^53
};

// Collective over the ranks that hold replicas. Reads every variable of the plan with aggregation mean, sum or max;
// local values stay as they are, so that reading twice gives the same. All sums and means travel in one collective, all
// maxima in a second one, which is left out when there are none. Sums of integers are exact, those of floats rounded in
// double.
std::vector<AggregatedValue> read_aggregated(const VariableStore& variables, Communicator& ranks);

}  // namespace lockstep
