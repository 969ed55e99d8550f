// SPDX-License-Identifier: Apache-2.0
#include "runtime/checkpoint/state_chunks.h"

#include <algorithm>

#include "runtime/plan/owners.h"

namespace lockstep {

std::vector<StateChunk> chunks_of(const Plan& plan, std::span<const int> node_of, int rank) {
  const std::vector<GradientBucket> buckets = gradient_buckets(plan, node_of);
  std::vector<StateChunk> chunks;
  int frozen = 0;
  for (size_t v = 0; v < plan.variables.size(); ++v) {
    const PlannedVariable& variable = plan.variables[v];
    const StateChunk whole{int32_t(v), 0, variable.local_elements};
    switch (variable.section) {
      case Section::trainable:
      case Section::slot: {
        const PlannedVariable& parameter =
            variable.parameter < 0 ? variable : plan.variables[size_t(variable.parameter)];
        const Range mine = buckets[size_t(parameter.bucket)].sums[size_t(rank)];
        const int64_t begin = std::max(mine.begin, variable.offset) - variable.offset;
        const int64_t end = std::min(mine.end, variable.offset + variable.local_elements) - variable.offset;
        if (begin < end) chunks.push_back({int32_t(v), begin, end});
        break;
      }
      case Section::frozen:
        if (frozen++ % int(node_of.size()) == rank && whole.elements() > 0) chunks.push_back(whole);
        break;
      case Section::local:
        if (rank == 0 && whole.elements() > 0) chunks.push_back(whole);
        break;
    }
  }
  return chunks;
}

}  // namespace lockstep
