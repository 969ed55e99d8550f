// SPDX-License-Identifier: Apache-2.0
// Devices, streams and recorded work of the emulation. Internal to it.
#pragma once

#include <cuda_runtime_api.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "tests/cuda_emulation/backlog.h"
#include "tests/cuda_emulation/sanitizers.h"

namespace cuda_emulation {
struct Capture;
}

// What NVIDIA's handles point to here.
struct CUstream_st {
  int device = 0;
  bool urgent = false;    // created with a higher priority
  bool computes = false;  // has been given a kernel
  cuda_emulation::OrderContext context;
  std::shared_ptr<cuda_emulation::Backlog> backlog = std::make_shared<cuda_emulation::Backlog>();
  std::shared_ptr<cuda_emulation::Capture> capture;
  size_t lane = 0;  // in the capture
};
struct CUevent_st {
  int device = 0;
  std::shared_ptr<cuda_emulation::Mark> mark;  // of the last record
  bool timed = false;
  bool of_copies = false;                            // last recorded on a stream that only copies
  std::shared_ptr<cuda_emulation::Capture> capture;  // it was recorded in
  size_t lane = 0, position = 0;
};

namespace cuda_emulation {

// One piece of recorded work, or a mark between lanes.
struct Recorded {
  size_t lane = 0;
  bool is_of_host = false;
  std::function<void()> work;
};

// What streams were given between begin and end of a capture, in the order of the program.
struct Capture {
  cudaStream_t origin = nullptr;
  uint64_t number = 0;
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::thread::id thread;            // began it
  std::atomic<bool> invalid{false};  // another thread may make it so
  bool ended = false;
  std::vector<CUstream_st*> streams;  // by lane
  std::vector<size_t> length;         // of each lane
  std::vector<size_t> joined;         // how much of it the origin has waited for
  std::vector<Recorded> work;
};

struct Memory {
  size_t bytes = 0;
  int device = 0;
  bool pinned = false;  // of the host
};

// All devices of the process.
class Machine {
 public:
  static Machine& get();

  static int devices();
  size_t bytes_per_device() const { return bytes_per_device_; }
  void* allocate(int device, size_t bytes);  // null when memory runs out
  void* allocate_pinned(size_t bytes);
  bool release(void* memory);  // false: not one of ours
  // What `address` lies in: device memory, pinned memory, or null for other memory of the host.
  const Memory* find(const void* address);
  size_t used(int device);
  void add(CUstream_st* stream);
  void remove(CUstream_st* stream);
  // Orders the host behind everything that a device was given.
  void wait_for(int device);
  // The first failure of a kernel breaks a device for good, as on a real one.
  cudaError_t broken(int device);
  void break_device(int device, cudaError_t error, const std::string& what);

 private:
  Machine();
  std::mutex mutex_;
  size_t bytes_per_device_;
  std::map<const char*, Memory> memory_;
  std::map<int, size_t> used_;
  std::set<CUstream_st*> streams_;
  std::map<int, cudaError_t> broken_;
};

// Of the calling OS thread.
int& current_device();
// Lets the calling OS thread, one of a stream, go by what the submitter goes by.
void act_for(const Submitter& submitter);
// Keeps the error for cudaGetLastError() and returns it.
cudaError_t note(cudaError_t error);

// Gives `work` to the stream: runs it as the stream, queues or records it. A function of the host always goes to the
// stream's own thread.
struct Marks {
  std::shared_ptr<const Mark> after = nullptr;  // the work comes behind it
  std::shared_ptr<Mark> reaches = nullptr;      // it is reached when the work is done
};
cudaError_t submit(cudaStream_t stream, std::function<void()> work, bool is_of_host = false, Marks marks = {});
void dispatch(CUstream_st& stream, bool is_of_host, std::shared_ptr<Item> item);
// The host comes behind everything that the stream has been given.
void wait_for(const CUstream_st& stream);
// An error while the stream is captured: what CUDA forbids then makes the capture void.
cudaError_t forbid_in_capture(cudaStream_t stream);
// An error for calls that no capture sees, such as cudaMalloc(), while this thread captures, or another one does in the
// mode `global`; the mode `relaxed` allows them. They make those captures void.
cudaError_t forbid_unsafe_call();

}  // namespace cuda_emulation
