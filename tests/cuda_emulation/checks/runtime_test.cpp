// SPDX-License-Identifier: Apache-2.0
// The stand-in for the CUDA runtime keeps the promises of the real one that our code relies on, and refuses what the
// real one refuses.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <thread>
#include <vector>

#include "tests/cuda_emulation/emulation.h"

namespace cuda_emulation {
namespace {

using testing::ElementsAre;

struct Stream {
  Stream() { EXPECT_EQ(cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking), cudaSuccess); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream() { cudaStreamDestroy(handle); }
  operator cudaStream_t() const { return handle; }
  cudaStream_t handle = nullptr;
};

struct Event {
  explicit Event(unsigned flags = cudaEventDisableTiming) {
    EXPECT_EQ(cudaEventCreateWithFlags(&handle, flags), cudaSuccess);
  }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  ~Event() { cudaEventDestroy(handle); }
  operator cudaEvent_t() const { return handle; }
  cudaEvent_t handle = nullptr;
};

// Numbers on the device.
struct Cells {
  explicit Cells(size_t n) : size(n) { EXPECT_EQ(cudaMalloc(&memory, n * sizeof(int)), cudaSuccess); }
  Cells(const Cells&) = delete;
  Cells& operator=(const Cells&) = delete;
  ~Cells() { cudaFree(memory); }
  int* at() const { return static_cast<int*>(memory); }
  std::vector<int> values() const {
    const Stream stream;
    std::vector<int> host(size);
    EXPECT_EQ(cudaMemcpyAsync(host.data(), memory, size * sizeof(int), cudaMemcpyDeviceToHost, stream), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
    return host;
  }
  void* memory = nullptr;
  size_t size;
};

// A kernel of one thread.
cudaError_t run(cudaStream_t stream, std::function<void()> body) { return launch(Launch{}, stream, std::move(body)); }
cudaError_t add(cudaStream_t stream, int* cell, int value) {
  return run(stream, [=] { *cell += value; });
}

class CudaStandIn : public testing::Test {
 protected:
  ~CudaStandIn() override { EXPECT_EQ(cudaGetLastError(), cudaSuccess) << "a test leaves an error behind"; }
  // The error came, and is kept once for whoever asks.
  static void expect_error(cudaError_t actual, cudaError_t expected) {
    EXPECT_EQ(actual, expected) << cudaGetErrorName(actual);
    EXPECT_EQ(cudaPeekAtLastError(), expected);
    EXPECT_EQ(cudaGetLastError(), expected);
    EXPECT_EQ(cudaGetLastError(), cudaSuccess);
  }
};

TEST_F(CudaStandIn, FillsNewMemoryWithWhatIsNoNumber) { EXPECT_THAT(Cells(2).values(), ElementsAre(-1, -1)); }

TEST_F(CudaStandIn, TellsMemoryApart) {
  const Cells cells(1);
  void* pinned = nullptr;
  ASSERT_EQ(cudaMallocHost(&pinned, 8), cudaSuccess);
  int ordinary = 0;
  const auto type = [](const void* address) {
    cudaPointerAttributes attributes;
    EXPECT_EQ(cudaPointerGetAttributes(&attributes, address), cudaSuccess);
    return attributes.type;
  };
  EXPECT_EQ(type(cells.at()), cudaMemoryTypeDevice);
  EXPECT_EQ(type(pinned), cudaMemoryTypeHost);
  EXPECT_EQ(type(&ordinary), cudaMemoryTypeUnregistered);
  EXPECT_EQ(cudaFreeHost(pinned), cudaSuccess);
  expect_error(cudaFree(&ordinary), cudaErrorInvalidValue);
  expect_error(cudaFree(pinned), cudaErrorInvalidValue);
  EXPECT_EQ(cudaFree(nullptr), cudaSuccess);
}

TEST_F(CudaStandIn, HasSoMuchMemoryAndNoMore) {
  size_t before = 0, after = 0, total = 0;
  ASSERT_EQ(cudaMemGetInfo(&before, &total), cudaSuccess);
  void* memory = nullptr;
  expect_error(cudaMalloc(&memory, total + 1), cudaErrorMemoryAllocation);
  ASSERT_EQ(cudaMalloc(&memory, 1 << 20), cudaSuccess) << "the device goes on";
  ASSERT_EQ(cudaMemGetInfo(&after, &total), cudaSuccess);
  EXPECT_EQ(before - after, size_t(1) << 20);
  EXPECT_EQ(cudaFree(memory), cudaSuccess);
  ASSERT_EQ(cudaMemGetInfo(&after, &total), cudaSuccess);
  EXPECT_EQ(before, after);
}

TEST_F(CudaStandIn, RunsAStreamInOrderAndOthersBehindEvents) {
  const Stream first, second;
  const Event event;
  const Cells cells(1);
  // A function of the host holds the first stream back, and so the second, which waits for it.
  ASSERT_EQ(cudaMemsetAsync(cells.at(), 0, sizeof(int), first), cudaSuccess);
  ASSERT_EQ(cudaLaunchHostFunc(
                first, [](void* cell) { *static_cast<int*>(cell) = 5; }, cells.at()),
            cudaSuccess);
  ASSERT_EQ(run(first, [cell = cells.at()] { *cell *= 3; }), cudaSuccess);
  ASSERT_EQ(cudaEventRecord(event, first), cudaSuccess);
  ASSERT_EQ(cudaStreamWaitEvent(second, event, 0), cudaSuccess);
  ASSERT_EQ(add(second, cells.at(), 1), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(second), cudaSuccess);
  EXPECT_THAT(cells.values(), ElementsAre(16));
  EXPECT_EQ(cudaEventQuery(event), cudaSuccess);
}

TEST_F(CudaStandIn, TakesOrdinaryMemoryOfTheHostAtOnce) {
  const Stream stream;
  const Cells cells(1);
  int host = 7;
  ASSERT_EQ(cudaMemcpyAsync(cells.at(), &host, sizeof host, cudaMemcpyHostToDevice, stream), cudaSuccess);
  host = 8;  // allowed: the driver has it
  ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_THAT(cells.values(), ElementsAre(7));
}

TEST_F(CudaStandIn, TimesBetweenEventsThatAreMadeForIt) {
  const Stream stream;
  const Event begin(cudaEventDefault), end(cudaEventDefault), plain;
  for (const cudaEvent_t event : {begin.handle, end.handle, plain.handle})
    ASSERT_EQ(cudaEventRecord(event, stream), cudaSuccess);
  ASSERT_EQ(cudaEventSynchronize(end), cudaSuccess);
  float milliseconds = -1;
  EXPECT_EQ(cudaEventElapsedTime(&milliseconds, begin, end), cudaSuccess);
  EXPECT_GE(milliseconds, 0);
  expect_error(cudaEventElapsedTime(&milliseconds, begin, plain), cudaErrorInvalidResourceHandle);
}

TEST_F(CudaStandIn, RefusesLaunchesThatNoDeviceTakes) {
  const Stream stream;
  const auto refused = [&](const Launch& what) {
    expect_error(launch(what, stream, [] { FAIL() << "it ran"; }), cudaErrorInvalidConfiguration);
  };
  refused({.grid = dim3(0)});
  refused({.block = dim3(0)});
  refused({.block = dim3(1025)});
  refused({.block = dim3(32, 32, 2)});
  refused({.block = dim3(1, 1, 65)});
  refused({.grid = dim3(1, 65536)});
  refused({.grid = dim3(1, 1, 65536)});
  refused({.shared_bytes = 228 * 1024});
  expect_error(launch({}, nullptr, [] {}), cudaErrorInvalidResourceHandle);
}

TEST_F(CudaStandIn, KeepsDevicesApart) {
  int count = 0;
  ASSERT_EQ(cudaGetDeviceCount(&count), cudaSuccess);
  if (count < 2) GTEST_SKIP() << "needs two emulated devices";
  const Stream stream;
  const Event event;
  ASSERT_EQ(cudaSetDevice(1), cudaSuccess);
  expect_error(run(stream, [] {}), cudaErrorInvalidResourceHandle);
  const Event of_other;
  expect_error(cudaEventRecord(of_other, stream), cudaErrorInvalidResourceHandle);
  ASSERT_EQ(cudaSetDevice(0), cudaSuccess);
  expect_error(cudaSetDevice(count), cudaErrorInvalidDevice);
  expect_error(cudaSetDevice(-1), cudaErrorInvalidDevice);
}

// Records `body` on the stream, and makes a graph of it.
cudaGraphExec_t record(cudaStream_t stream, const std::function<void()>& body) {
  EXPECT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  body();
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  cudaGraphExec_t exec = nullptr;
  EXPECT_EQ(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  return exec;
}

TEST_F(CudaStandIn, RecordsWithoutRunningAndRunsWhatItRecorded) {
  const Stream stream, other;
  const Event fork, join;
  const Cells cells(2);
  ASSERT_EQ(cudaMemsetAsync(cells.at(), 0, 2 * sizeof(int), stream), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  const cudaGraphExec_t graph = record(stream, [&] {
    EXPECT_EQ(add(stream, cells.at(), 1), cudaSuccess);
    EXPECT_EQ(cudaEventRecord(fork, stream), cudaSuccess);
    EXPECT_EQ(cudaStreamWaitEvent(other, fork, 0), cudaSuccess);
    EXPECT_EQ(add(other, cells.at() + 1, 10), cudaSuccess);
    EXPECT_EQ(cudaEventRecord(join, other), cudaSuccess);
    EXPECT_EQ(cudaStreamWaitEvent(stream, join, 0), cudaSuccess);
    EXPECT_EQ(run(stream, [cell = cells.at()] { cell[0] += cell[1]; }), cudaSuccess);
  });
  EXPECT_THAT(cells.values(), ElementsAre(0, 0));
  const int64_t launches = counters().launches;
  for (int i = 0; i < 2; ++i) ASSERT_EQ(cudaGraphLaunch(graph, stream), cudaSuccess);
  ASSERT_EQ(cudaStreamSynchronize(stream), cudaSuccess);
  EXPECT_EQ(counters().launches - launches, 6);
  EXPECT_THAT(cells.values(), ElementsAre(1 + 10 + 1 + 20, 20));
  EXPECT_EQ(cudaGraphExecDestroy(graph), cudaSuccess);
}

// A capture that `body` makes void ends with `expected`.
void expect_void_capture(const std::function<void(cudaStream_t)>& body, cudaError_t expected,
                         cudaStreamCaptureMode mode = cudaStreamCaptureModeThreadLocal) {
  const Stream stream;
  ASSERT_EQ(cudaStreamBeginCapture(stream, mode), cudaSuccess);
  body(stream);
  cudaGraph_t graph = nullptr;
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), expected);
  EXPECT_EQ(graph, nullptr);
  (void)cudaGetLastError();
  EXPECT_EQ(cudaStreamSynchronize(stream), cudaSuccess) << "the stream goes on";
}

TEST_F(CudaStandIn, RefusesInACaptureWhatCannotBeRecorded) {
  expect_void_capture(
      [](cudaStream_t stream) { EXPECT_EQ(cudaStreamSynchronize(stream), cudaErrorStreamCaptureUnsupported); },
      cudaErrorStreamCaptureInvalidated);
  expect_void_capture(
      [](cudaStream_t stream) { EXPECT_EQ(cudaStreamQuery(stream), cudaErrorStreamCaptureUnsupported); },
      cudaErrorStreamCaptureInvalidated);
  const Cells cells(1);
  int ordinary = 0;
  expect_void_capture(
      [&](cudaStream_t stream) {
        EXPECT_EQ(cudaMemcpyAsync(cells.at(), &ordinary, 4, cudaMemcpyHostToDevice, stream),
                  cudaErrorStreamCaptureUnsupported);
        EXPECT_EQ(add(stream, cells.at(), 1), cudaErrorStreamCaptureInvalidated) << "nothing after it is recorded";
      },
      cudaErrorStreamCaptureInvalidated);
}

// Calls that no capture sees.
void expect_unsafe_calls(const Event& event, const Stream& other, cudaError_t expected) {
  void* memory = nullptr;
  EXPECT_EQ(cudaMalloc(&memory, 8), expected);
  EXPECT_EQ(cudaFree(memory), memory ? expected : cudaSuccess);
  memory = nullptr;
  EXPECT_EQ(cudaMallocHost(&memory, 8), expected);
  EXPECT_EQ(cudaFreeHost(memory), memory ? expected : cudaSuccess);
  EXPECT_EQ(cudaEventQuery(event), expected);
  EXPECT_EQ(cudaEventSynchronize(event), expected);
  EXPECT_EQ(cudaStreamQuery(other), expected);
  EXPECT_EQ(cudaStreamSynchronize(other), expected);
  EXPECT_EQ(cudaDeviceSynchronize(), expected);
}

TEST_F(CudaStandIn, RefusesCallsThatNoCaptureSeesByTheModeOfTheCapture) {
  const Stream other;
  const Event event;
  ASSERT_EQ(cudaEventRecord(event, other), cudaSuccess);
  const auto unsafe = [&](cudaError_t expected) { expect_unsafe_calls(event, other, expected); };
  const auto in_another_thread = [&](cudaError_t expected) { std::thread([&] { unsafe(expected); }).join(); };
  const Stream stream;
  cudaGraph_t graph = nullptr;
  ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  in_another_thread(cudaSuccess);
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess) << "other threads do as they like";
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed), cudaSuccess);
  unsafe(cudaSuccess);
  in_another_thread(cudaSuccess);
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess) << "everybody does";
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
  const auto forbidden = [&](cudaStream_t) { unsafe(cudaErrorStreamCaptureUnsupported); };
  expect_void_capture(forbidden, cudaErrorStreamCaptureInvalidated);
  expect_void_capture(forbidden, cudaErrorStreamCaptureInvalidated, cudaStreamCaptureModeGlobal);
  expect_void_capture([&](cudaStream_t) { in_another_thread(cudaErrorStreamCaptureUnsupported); },
                      cudaErrorStreamCaptureInvalidated, cudaStreamCaptureModeGlobal);
}

TEST_F(CudaStandIn, KeepsEventsOnTheirSideOfACapture) {
  const Stream other;
  const Event before, within;
  ASSERT_EQ(cudaEventRecord(before, other), cudaSuccess);
  expect_void_capture(
      [&](cudaStream_t stream) { EXPECT_EQ(cudaStreamWaitEvent(stream, before, 0), cudaErrorStreamCaptureIsolation); },
      cudaErrorStreamCaptureInvalidated);
  expect_void_capture(
      [&](cudaStream_t stream) {
        EXPECT_EQ(cudaEventRecord(within, stream), cudaSuccess);
        EXPECT_EQ(cudaEventQuery(within), cudaErrorCapturedEvent);
      },
      cudaErrorStreamCaptureInvalidated);
  const cudaGraphExec_t graph = record(other, [&] { EXPECT_EQ(cudaEventRecord(within, other), cudaSuccess); });
  expect_error(cudaEventSynchronize(within), cudaErrorCapturedEvent);
  expect_error(cudaStreamWaitEvent(other, within, 0), cudaErrorStreamCaptureIsolation);
  EXPECT_EQ(cudaGraphExecDestroy(graph), cudaSuccess);
}

TEST_F(CudaStandIn, EndsACaptureInTheThreadThatBeganIt) {
  const Stream stream;
  cudaGraph_t graph = nullptr;
  ASSERT_EQ(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  std::thread([&] { EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaErrorStreamCaptureWrongThread); }).join();
  EXPECT_EQ(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  EXPECT_EQ(cudaGraphDestroy(graph), cudaSuccess);
}

TEST_F(CudaStandIn, RefusesACaptureWhoseStreamsDoNotComeTogether) {
  const Stream other;
  const Event fork;
  const Cells cells(1);
  expect_void_capture(
      [&](cudaStream_t stream) {
        EXPECT_EQ(cudaEventRecord(fork, stream), cudaSuccess);
        EXPECT_EQ(cudaStreamWaitEvent(other, fork, 0), cudaSuccess);
        EXPECT_EQ(add(other, cells.at(), 1), cudaSuccess);
      },
      cudaErrorStreamCaptureUnjoined);
  const Stream never;
  cudaGraph_t graph = nullptr;
  expect_error(cudaStreamEndCapture(never, &graph), cudaErrorIllegalState);
}

TEST(CudaStandInDeathTest, WithoutDevicesSaysSo) {
  const auto none = [] {
    setenv("LOCKSTEP_EMULATED_DEVICES", "0", 1);
    int count = -1;
    const bool refused = cudaGetDeviceCount(&count) == cudaErrorNoDevice && count == 0;
    cudaStream_t stream = nullptr;
    void* memory = nullptr;
    std::_Exit(refused && cudaStreamCreateWithFlags(&stream, 0) == cudaErrorNoDevice &&
                       cudaMalloc(&memory, 8) == cudaErrorNoDevice
                   ? 3
                   : 4);
  };
  EXPECT_EXIT(none(), testing::ExitedWithCode(3), "");
}

TEST(CudaStandInDeathTest, ShowsTheDevicesThatAreVisible) {
  const auto chosen = [] {
    setenv("CUDA_VISIBLE_DEVICES", "5,2,99,1", 1);
    int count = -1;
    char name[32];
    const bool two = cudaGetDeviceCount(&count) == cudaSuccess && count == 2;  // as the driver: none behind a wrong one
    std::_Exit(two && cudaDeviceGetPCIBusId(name, sizeof name, 1) == cudaSuccess &&
                       std::strcmp(name, "EEEE:03:00.0") == 0
                   ? 3
                   : 4);
  };
  EXPECT_EXIT(chosen(), testing::ExitedWithCode(3), "");
}

}  // namespace
}  // namespace cuda_emulation
