// SPDX-License-Identifier: Apache-2.0
// Counts the right answers of a model on labelled images; every image counts once, whatever the number of ranks.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <span>

#include "collectives/communicator.h"
#include "runtime/autograd/context.h"
#include "runtime/data/dataset.h"
#include "runtime/models/model_list.h"

namespace lockstep {

// Collective; gives the same number on every rank. `stop`, where there is one, is asked equally often by all ranks, and
// is collective, too; when it says so, counting ends without a number.
std::optional<int64_t> count_correct(Communicator& communicator, Stream& stream, Pool& pool, const Model& model,
                                     std::span<const Tensor> values, const Images& images,
                                     const std::function<bool()>& stop = {});

}  // namespace lockstep
