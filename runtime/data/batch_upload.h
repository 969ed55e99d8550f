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

// Holds the parts of a step in one piece of device memory, which takes one copy per step, on a stream of its own. There
// are two such pieces in turn: one is filled while the step before computes from the other. Batches of the same sizes
// have the same addresses in each of them, so that a recorded step finds its input there.
class BatchUpload {
 public:
  // `wait_for` waits for an event of a GPU; it may give up with an Error when the event never comes.
  BatchUpload(Stream& stream, Pool& pool, std::function<void(Event&)> wait_for);

  struct OnDevice {
    std::vector<BatchPart> parts;
    ConstView dropout_key;  // [] i64
  };
  // Brings `parts` and the key to where what is queued next finds them; their memory may be reused on return. Views
  // are valid until the next call, before which everything that reads them is to be queued.
  const OnDevice& bring(std::span<const BatchPart> parts, uint64_t dropout_key);
  // In which piece of memory the last batch lies: 0 or 1.
  int piece() const { return int(turn_ % 2); }
  // Changes when memory had to grow, which changes the addresses.
  int generation() const { return generation_; }

 private:
  // Pinned memory that may be filled again when it has been copied, and where it is copied to when that has been read.
  struct Stage {
    PinnedBuffer host;
    Buffer device;
    Event copied, read;
  };
  void place(std::span<const BatchPart> parts);
  static std::vector<ConstView*> views_of(Batch& batch);
  void reserve(int64_t bytes);

  Stream& stream_;
  Stream copies_;
  Pool& pool_;
  std::function<void(Event&)> wait_for_;
  std::vector<Stage> stages_;  // empty before the first batch, and on the CPU
  size_t turn_ = 0;
  int generation_ = 0;
  std::vector<std::pair<ConstView, int64_t>> pieces_;  // pieces on the host, and where each goes
  int64_t bytes_ = 0;
  OnDevice on_device_;
  uint64_t key_ = 0;  // the key, on the CPU
};

}  // namespace lockstep
