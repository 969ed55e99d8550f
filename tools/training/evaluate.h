// SPDX-License-Identifier: Apache-2.0
// Counts the right answers of a model on labelled images; every image counts once, whatever the number of ranks.
#pragma once

#include <cstdint>
#include <span>

#include "collectives/communicator.h"
#include "runtime/autograd/context.h"
#include "runtime/data/dataset.h"
#include "runtime/models/model_list.h"

namespace lockstep {

// Collective; gives the same number on every rank.
int64_t count_correct(Communicator& communicator, Stream& stream, Pool& pool, const Model& model,
                      std::span<const Tensor> values, const Images& images);

}  // namespace lockstep
