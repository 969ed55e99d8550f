// SPDX-License-Identifier: Apache-2.0
// Keeps steps of a GPU that were recorded once and are launched as a whole from then on, one recording for each shape
// of batch.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "collectives/call_log.h"
#include "kernels/device/graph.h"
#include "runtime/data/step_input.h"

namespace lockstep {

// What the host decides about a step's launches: a recorded step serves steps of the same shape.
struct StepShape {
  int64_t global_count = 0;
  std::vector<int64_t> parts;  // for each its number and the shapes and dtypes of its columns
  auto operator<=>(const StepShape&) const = default;
};

inline StepShape shape_of(const StepInput& input) {
  StepShape shape{input.global_count, {}};
  for (const BatchPart& part : input.parts) {
    shape.parts.push_back(part.number);
    for (const Column& column : part.batch.columns()) {
      shape.parts.push_back(int64_t(column.values.dtype));
      shape.parts.push_back(column.values.shape.rank());
      for (const int64_t size : column.values.shape.sizes()) shape.parts.push_back(size);
    }
  }
  return shape;
}

class StepGraphs {
 public:
  // The other state that recorded launches hold; a change of any of these numbers makes recordings void.
  using Generation = std::vector<int64_t>;

  // Runs `work` as it is the first time a shape comes, so that memory and plans of products exist, and records it the
  // second time. `log` belongs to the ranks whose collectives the work issues; it gets them with every launch.
  template <class Work>
  void run(Stream& stream, CallLog& log, const StepShape& shape, Generation generation, const Work& work) {
    if (warm_.insert(shape).second) return work();
    if (generation != recorded_with_) graphs_.clear();
    recorded_with_ = std::move(generation);
    auto recorded = graphs_.find(shape);
    if (recorded == graphs_.end()) {
      CallLog::Calls collectives;
      Graph graph = Graph::record(stream, [&] { collectives = log.capture(work); });
      recorded = graphs_.emplace(shape, RecordedStep{std::move(graph), std::move(collectives)}).first;
    }
    log.enter(recorded->second.collectives);
    recorded->second.graph.launch(stream);
  }

 private:
  struct RecordedStep {
    Graph graph;
    CallLog::Calls collectives;  // entered with every launch
  };
  std::set<StepShape> warm_;
  std::map<StepShape, RecordedStep> graphs_;
  Generation recorded_with_;
};

}  // namespace lockstep
