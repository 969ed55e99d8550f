// SPDX-License-Identifier: Apache-2.0
// Devices, streams and recorded work of the emulation. Internal to it.
#pragma once

#include <cuda_runtime_api.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "tests/cuda_emulation/sanitizers.h"

namespace cuda_emulation {
struct Capture;
}

// What NVIDIA's handles point to here.
struct CUstream_st {
  int device = 0;
  cuda_emulation::OrderContext context;
  char submitted = 0, done = 0;  // marks of order: host to stream, stream to host
  std::shared_ptr<cuda_emulation::Capture> capture;
  size_t lane = 0;  // in the capture
};
struct CUevent_st {
  int device = 0;
  char mark = 0;
  bool recorded = false, timed = false;
  std::chrono::steady_clock::time_point when;
  std::shared_ptr<cuda_emulation::Capture> capture;  // it was recorded in
  size_t lane = 0, position = 0;
};

namespace cuda_emulation {

// One piece of recorded work, or a mark between lanes.
struct Recorded {
  size_t lane = 0;
  std::function<void()> work;
};

// What streams were given between begin and end of a capture, in the order of the program.
struct Capture {
  cudaStream_t origin = nullptr;
  bool invalid = false;
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

  int devices() const { return devices_; }
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
  int devices_;
  size_t bytes_per_device_;
  std::map<const char*, Memory> memory_;
  std::map<int, size_t> used_;
  std::set<CUstream_st*> streams_;
  std::map<int, cudaError_t> broken_;
};

// Of the calling OS thread.
int& current_device();
// Keeps the error for cudaGetLastError() and returns it.
cudaError_t note(cudaError_t error);

// Gives `work` to the stream: runs it as the stream, or records it.
cudaError_t submit(cudaStream_t stream, std::function<void()> work);
// Runs `work` in the order of a context between two marks.
void run_as(void* context, const void* before, const void* after, const std::function<void()>& work);
// An error while a stream is captured: what CUDA forbids then makes the capture void.
cudaError_t forbid_in_capture(cudaStream_t stream);
bool thread_is_capturing();

}  // namespace cuda_emulation
