// SPDX-License-Identifier: Apache-2.0
// Sums over the ranks of a group whose bits depend on the number of ranks alone: the ranks are the leaves of the
// canonical tree (tree_sum.h), wherever they run and whatever carries their messages. Communicators' own reductions are
// as fast or faster, but add in an order of their own.
#pragma once

#include <cstdint>
#include <source_location>

#include "collectives/mesh_group.h"

namespace lockstep {

// How many f32 elements of scratch each rank needs for a sum of `elements` elements: a piece of every rank's operand.
int64_t ordered_sum_scratch(int ranks, int64_t elements);

// Both work on f32 on the device of `stream`; what `stream` is given next finds the result. `scratch` has at least
// ordered_sum_scratch(group.size(), size of the whole) elements. Each is one collective of the log. Error(collective)
// for other dtypes and for sizes that do not fit.

// out = the sum of `in` over the ranks; both have equal size and may be one memory.
void ordered_all_reduce(const MeshGroup& group, const ConstView& in, const View& out, const View& scratch,
                        Stream& stream, std::source_location where = std::source_location::current());
// part = the rank()-th of size() equal parts of the sum of `whole` over the ranks.
void ordered_reduce_scatter(const MeshGroup& group, const ConstView& whole, const View& part, const View& scratch,
                            Stream& stream, std::source_location where = std::source_location::current());

}  // namespace lockstep
