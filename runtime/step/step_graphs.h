// SPDX-License-Identifier: Apache-2.0
// Keeps steps of a GPU that were recorded once and are launched as a whole from then on, one recording for each shape
// of batch and place where it lies. Whether collectives are recorded, and which recording of them is launched, has to
// be the same on all ranks, while shapes and memory are a rank's own: ranks agree.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "collectives/communicator.h"
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

// What becomes of a step. The greatest that any rank needs is what all do.
enum class StepWay : int32_t {
  launch,  // its recording, which is there
  record,  // and then launch that
  run,     // as it is
};

// Collective, and in no log: it is not among the collectives of a plan.
inline StepWay agree(Communicator& ranks, StepWay mine) {
  if (ranks.size() == 1) return mine;
  const CallLog::Parts parts(ranks.log());
  auto way = int32_t(mine);
  Stream stream = Stream::cpu();
  ranks.all_reduce({&way, DType::i32, DeviceKind::cpu, Shape{1}}, ReduceOp::max, stream).wait(stream);
  return StepWay(way);
}

class StepGraphs {
 public:
  // The other state that recorded launches hold; a change of any of these numbers makes recordings void.
  using Generation = std::vector<int64_t>;

  // Collective over `ranks`, whose collectives `work` issues. Runs `work` as it is the first time a shape comes, so
  // that memory and plans of products exist, and records it the next time that a batch of this shape lies in `piece` of
  // memory. The log of `ranks` gets its collectives with every launch.
  template <class Work>
  void run(Stream& stream, Communicator& ranks, const StepShape& shape, int piece, const Generation& generation,
           const Work& work) {
    if (generation != recorded_with_) graphs_.clear();
    recorded_with_ = generation;
    const Key key{shape, piece};
    const bool is_recorded = graphs_.contains(key);
    const StepWay way = agree(ranks, !warm_.contains(shape) ? StepWay::run
                                     : is_recorded          ? StepWay::launch
                                                            : StepWay::record);
    if (way == StepWay::run) {
      warm_.insert(shape);
      return work();
    }
    if (way == StepWay::record) {
      CallLog::Calls collectives;
      Graph graph = Graph::record(stream, [&] { collectives = ranks.log().capture(work); });
      graphs_.insert_or_assign(key, RecordedStep{std::move(graph), std::move(collectives)});
    }
    RecordedStep& recorded = graphs_.at(key);
    ranks.log().enter(recorded.collectives);
    recorded.graph.launch(stream);
  }

 private:
  using Key = std::pair<StepShape, int>;
  struct RecordedStep {
    Graph graph;
    CallLog::Calls collectives;  // entered with every launch
  };
  std::set<StepShape> warm_;
  std::map<Key, RecordedStep> graphs_;
  Generation recorded_with_;
};

}  // namespace lockstep
