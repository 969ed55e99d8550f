// SPDX-License-Identifier: Apache-2.0
// What may be otherwise in a run that goes on from a checkpoint, and what that means for the bits. Ranks, nodes,
// threads, devices, buckets and the number of steps may be; what decides the numbers only if the user says so.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "runtime/checkpoint/manifest.h"

namespace lockstep {

using RunConfiguration = std::map<std::string, std::string>;

// The names that --allow-change takes.
std::span<const std::string_view> changes_that_can_be_allowed();

// Error(usage) names every difference that is not allowed, with what it would mean. Returns whether there are any.
bool check_changes(const std::string& checkpoint, const RunConfiguration& before, const RunConfiguration& now,
                   const std::vector<std::string>& allowed);

// The batch, counted over all epochs, that a run with `batch` samples a step and `samples` an epoch goes on with: at
// the next sample where only the batch has changed, with the next epoch where the samples have. Error(usage) where no
// batch begins with the next sample.
int64_t batch_to_go_on_with(const DataPosition& position, int64_t batch, int64_t samples);

}  // namespace lockstep
