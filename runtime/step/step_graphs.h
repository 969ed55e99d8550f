// SPDX-License-Identifier: Apache-2.0
// Steps of a GPU that were recorded once and are launched as a whole from then on, one recording for each shape of
// batch.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "kernels/device/graph.h"
#include "runtime/data/step_input.h"

namespace lockstep {

// What of a step's launches comes from the host: a recorded step serves steps of the same shape.
struct StepShape {
  int64_t global_count = 0;
  std::vector<std::pair<int, int64_t>> leaves;  // number, samples
  auto operator<=>(const StepShape&) const = default;
};

inline StepShape shape_of(const StepInput& input) {
  StepShape shape{input.global_count, {}};
  for (const LeafInput& leaf : input.leaves) shape.leaves.emplace_back(leaf.leaf, leaf.sample_ids.size());
  return shape;
}

class StepGraphs {
 public:
  // What recorded launches hold besides; a change of any of these numbers makes recordings void.
  using Generation = std::vector<int64_t>;

  // Runs `work` as it is the first time a shape comes, so that memory and plans of products are there, and records it
  // the second time. Returns whether the work was done by a recording of before.
  template <class Work>
  bool run(Stream& stream, const StepShape& shape, Generation generation, const Work& work) {
    if (warm_.insert(shape).second) {
      work();
      return false;
    }
    if (generation != recorded_with_) graphs_.clear();
    recorded_with_ = std::move(generation);
    auto recorded = graphs_.find(shape);
    const bool known = recorded != graphs_.end();
    if (!known) recorded = graphs_.emplace(shape, Graph::record(stream, work)).first;
    recorded->second.launch(stream);
    return known;
  }

 private:
  std::set<StepShape> warm_;
  std::map<StepShape, Graph> graphs_;
  Generation recorded_with_;
};

}  // namespace lockstep
