// SPDX-License-Identifier: Apache-2.0
// Bodies that run on ranks with a GPU each, by every transport there is: as threads in every build with CUDA, and as
// the processes of mpirun in the *_mpi_test binaries. Arrays of the device for them.
#pragma once

#include <gtest/gtest.h>

#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "collectives/device/device_communicator.h"
#include "kernels/config.h"
#include "kernels/device/memory.h"
#include "kernels/device/transfer.h"
#include "tests/support/ranks.h"

namespace lockstep {

// What a test of device collectives needs on one rank.
struct DeviceRank {
  DeviceCommunicator& comm;
  Stream& compute;
  Pool& pool;
  int rank() const { return comm.rank(); }
  int size() const { return comm.size(); }
};

// A vector in memory of the device.
template <class T>
class DeviceVector {
 public:
  // Filled in the order of `stream`.
  DeviceVector(DeviceRank& on, const std::vector<T>& values)
      : stream_(on.compute),
        size_(int64_t(values.size())),
        memory_(on.pool, std::max<int64_t>(1, size_) * int64_t(sizeof(T)), Purpose::data),
        pinned_(stream_.device(), std::max<int64_t>(1, size_) * int64_t(sizeof(T))) {
    set(values);
  }
  DeviceVector(DeviceRank& on, size_t size, T value = T()) : DeviceVector(on, std::vector<T>(size, value)) {}

  DeviceVector(DeviceVector&&) = default;
  ~DeviceVector() { stream_.synchronize(); }  // queued copies still use the pinned memory

  View view() const { return memory_.view(dtype_of<T>(), Shape{size_}); }
  T* data() const { return static_cast<T*>(memory_.data()); }
  // Earlier copies have to be over.
  void set(const std::vector<T>& values) {
    std::copy(values.begin(), values.end(), static_cast<T*>(pinned_.data()));
    copy(stream_, memory_.data(), pinned_.data(), size_ * int64_t(sizeof(T)));
  }
  // Behind everything that the stream has been given so far.
  std::vector<T> get() {
    copy(stream_, pinned_.data(), memory_.data(), size_ * int64_t(sizeof(T)));
    stream_.synchronize();
    const T* first = static_cast<const T*>(pinned_.data());
    return {first, first + size_};
  }

 private:
  Stream& stream_;
  int64_t size_;
  Buffer memory_;
  PinnedBuffer pinned_;
};

inline void with_device(Communicator& ranks, DeviceTransport transport, const std::function<void(DeviceRank&)>& body) {
  const Device device = choose_device(ranks, transport);
  Pool pool(device);
  Stream compute = Stream::cuda(device.index);
  const auto comm = make_device_communicator(ranks, device, transport);
  DeviceRank on{*comm, compute, pool};
  body(on);
  comm->synchronize(compute);
  comm->synchronize(comm->stream());
}

// NCCL has to be in the build, and wants a GPU for each rank. Says so where something is missing.
inline bool can_run(DeviceTransport transport, int ranks) {
  const int gpus = find_cuda_devices().count();
  if (transport == DeviceTransport::staged || (config::nccl && gpus >= ranks)) return true;
  std::printf("skipped: NCCL between %d ranks, for %d GPUs%s\n", ranks, gpus, config::nccl ? "" : " and no NCCL");
  return false;
}

// body(rank) by each transport, on 1 to 4 thread ranks or once on the ranks of mpirun. Skips, saying why, without GPUs.
inline void on_every_device_group(const std::function<void(DeviceRank&)>& body) {
  const CudaDevices found = find_cuda_devices();
  if (found.count() == 0) GTEST_SKIP() << "needs a GPU: " << found.detail;
  for (const DeviceTransport transport : {DeviceTransport::nccl, DeviceTransport::staged}) {
    SCOPED_TRACE(transport == DeviceTransport::nccl ? "by NCCL" : "staged");
    const auto on_ranks = [&](Communicator& ranks) { with_device(ranks, transport, body); };
    if (Communicator* ranks = launched_ranks()) {
      ranks->set_timeout(std::chrono::seconds(60));
      if (can_run(transport, ranks->size())) on_ranks(*ranks);
      continue;
    }
    for (const int ranks : cases({1, 2, 4, 3})) {
      SCOPED_TRACE(str(ranks, " thread ranks"));
      if (can_run(transport, ranks)) run_ranks(ranks, on_ranks);
    }
  }
}

}  // namespace lockstep
