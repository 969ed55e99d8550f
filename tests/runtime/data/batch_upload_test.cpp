// SPDX-License-Identifier: Apache-2.0
// When batches come to a GPU. The emulated device can be stopped in the middle, and its memory can be looked at.
#include "runtime/data/batch_upload.h"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

#include "tests/cuda_emulation/emulation.h"
#include "tests/support/devices.h"

namespace lockstep {
namespace {

// What a stream does until it is opened.
class Gate {
 public:
  explicit Gate(Stream& stream) {
    cudaLaunchHostFunc(
        static_cast<cudaStream_t>(stream.handle()), [](void* gate) { static_cast<Gate*>(gate)->wait(); }, this);
  }
  void open() { is_open_ = true; }

 private:
  void wait() const {
    while (!is_open_) std::this_thread::yield();
  }
  std::atomic<bool> is_open_{false};
};

// Where a batch of four numbers comes to lie.
const float* bring(BatchUpload& upload, float value) {
  const std::vector<float> values(4, value);
  const std::vector<int64_t> ids = {0, 1, 2, 3};
  const BatchPart part{0, Batch({Column("x", values)}, {ids.data(), DType::i64, DeviceKind::cpu, Shape{4}})};
  return data<float>(ConstView(upload.bring({&part, 1}, 0).parts[0].batch["x"]));
}

TEST(BatchUploadOnAGpu, BringsABatchWhileTheOneBeforeIsReadAndNoEarlier) {
  LOCKSTEP_NEEDS_GPU();
  Stream compute = Stream::cuda(0);
  Pool pool(compute.device());
  BatchUpload upload(compute, pool, [](Event& event) { event.synchronize(); });
  const float* first = bring(upload, 1);
  Gate computing(compute);
  const float* second = bring(upload, 2);
  EXPECT_NE(first, second);
  EXPECT_EQ(*second, 2) << "the step that computes is over";
  EXPECT_EQ(bring(upload, 3), first);
  EXPECT_EQ(*first, 1) << "it is still read";
  computing.open();
  compute.synchronize();
  EXPECT_EQ(*first, 3);
  EXPECT_EQ(*second, 2);
}

}  // namespace
}  // namespace lockstep
