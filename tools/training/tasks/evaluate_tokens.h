// SPDX-License-Identifier: Apache-2.0
// The loss of a language model on tokens that it was not trained on.
#pragma once

#include <cstdint>
#include <optional>

#include "tools/training/tasks/training_task.h"

namespace lockstep {

// Collective: the mean loss of a token over the first `samples` samples, in nats. It has the same bits on every rank
// and on any number of them: parts have one size, and their sums are added in one order. Empty where judged.stop says
// so.
std::optional<double> evaluate_tokens(const JudgedModel& judged, const TokenDataset& data, int64_t samples);

}  // namespace lockstep
