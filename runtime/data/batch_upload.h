// SPDX-License-Identifier: Apache-2.0
// Brings batches to where the step computes: from the host to a GPU, while the GPU is still busy with the step before.
// On the CPU they are already there.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <vector>

#include "kernels/device/memory.h"
#include "kernels/device/transfer.h"
#include "runtime/data/step_input.h"

namespace lockstep {

// Holds the parts of a step in one piece of device memory. That takes one copy per step, and gives every batch of the
// same sizes the same addresses, so that a recorded step finds its input there.
class BatchUpload {
 public:
  // `wait_for` waits for an event of a GPU; it may give up with an Error when the event never comes.
  BatchUpload(Stream& stream, Pool& pool, std::function<void(Event&)> wait_for);

  struct OnDevice {
    std::vector<BatchPart> parts;
    ConstView dropout_key;  // [] i64
  };
  // Copies `parts` and the key in stream order; their memory may be reused on return. Views are valid until the next
  // call.
  const OnDevice& bring(std::span<const BatchPart> parts, uint64_t dropout_key);
  // Changes when memory had to grow, which changes the addresses.
  int generation() const { return generation_; }

 private:
  // Pinned memory, and the event after which it may be filled again.
  struct Stage {
    PinnedBuffer memory;
    Event copied;
  };
  void place(std::span<const BatchPart> parts);
  static std::vector<ConstView*> views_of(Batch& batch);
  void reserve(int64_t bytes);

  Stream& stream_;
  Pool& pool_;
  std::function<void(Event&)> wait_for_;
  // One is filled while the GPU copies from the other.
  std::vector<Stage> stages_;
  size_t turn_ = 0;
  Buffer device_;
  int generation_ = 0;
  std::vector<std::pair<ConstView, int64_t>> pieces_;  // pieces on the host, and where each goes
  int64_t bytes_ = 0;
  OnDevice on_device_;
  uint64_t key_ = 0;  // the key, on the CPU
};

}  // namespace lockstep
