// SPDX-License-Identifier: Apache-2.0
// Kernels with one mistake each, and their right twins: planted_bugs NAME bug|right [forward|reverse|random].
// Ends with 0 for the right result, 1 for a wrong one, 2 where a launch fails; a sanitizer may end it before.
#include <cuda_runtime.h>

#include <cmath>
#include <cstdio>
#include <functional>
#include <map>
#include <string>

#include "kernels/cuda_shared.cuh"

namespace {

using lockstep::cuda::block_shared;
constexpr unsigned kThreads = 64, kFull = ~0u;

// Device memory of exactly that size, all zero.
template <class T>
struct Device {
  explicit Device(size_t n) : size(n) {
    void* memory = nullptr;
    if (cudaMalloc(&memory, n * sizeof(T)) != cudaSuccess) std::abort();
    at = static_cast<T*>(memory);
    for (size_t i = 0; i < n; ++i) at[i] = T(0);
  }
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;
  ~Device() { cudaFree(at); }
  T* at;
  size_t size;
};

struct Stream {
  Stream() { cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream() { cudaStreamDestroy(handle); }
  cudaStream_t handle;
};

template <class... Parameter, class... Argument>
void start(cudaStream_t stream, unsigned blocks, unsigned threads, bool cooperative, void (*kernel)(Parameter...),
           Argument... argument) {
  cudaLaunchAttribute attribute{};
  attribute.id = cudaLaunchAttributeCooperative;
  attribute.val.cooperative = cooperative;
  cudaLaunchConfig_t config{};
  config.gridDim = blocks;
  config.blockDim = threads;
  config.stream = stream;
  config.attrs = &attribute;
  config.numAttrs = 1;
  const cudaError_t error = cudaLaunchKernelEx(&config, kernel, static_cast<Parameter>(argument)...);
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "launch failed: %s\n", cudaGetErrorName(error));
  std::_Exit(2);
}

// What `kernel` writes to `n` numbers is what `expected` says.
template <class Expected>
bool gives(void (*kernel)(float*), unsigned blocks, unsigned threads, size_t n, const Expected& expected,
           bool cooperative = false) {
  Device<float> out(n);
  const Stream stream;
  start(stream.handle, blocks, threads, cooperative, kernel, out.at);
  cudaStreamSynchronize(stream.handle);
  for (size_t i = 0; i < n; ++i) {
    if (out.at[i] == expected(i)) continue;
    std::printf("element %zu: expected %g, got %s\n", i, double(expected(i)),
                std::isnan(out.at[i]) ? "NaN" : std::to_string(out.at[i]).c_str());
    return false;
  }
  return true;
}

template <bool kBug>
void publish(float* out) {
  auto& shared = block_shared<float[kThreads], struct Publish>();
  shared[threadIdx.x] = float(threadIdx.x);
  if (!kBug) __syncthreads();
  out[blockIdx.x * kThreads + threadIdx.x] = shared[kThreads - 1 - threadIdx.x];
}

template <bool kBug>
void reuse(float* out) {
  auto& shared = block_shared<float[kThreads], struct Reuse>();
  float sum = 0;
  for (int round = 0; round < 2; ++round) {
    shared[threadIdx.x] = float(threadIdx.x);
    __syncthreads();
    sum += shared[kThreads - 1 - threadIdx.x];
    if (!kBug) __syncthreads();
  }
  out[blockIdx.x * kThreads + threadIdx.x] = sum;
}

template <bool kBug>
void neighbours(float* out) {
  auto& shared = block_shared<float[32], struct Neighbours>();
  shared[threadIdx.x] = float(threadIdx.x);
  const float zero = __shfl_sync(kFull, 0.0f, 0);  // orders no memory
  if (!kBug) __syncwarp();
  out[threadIdx.x] = zero + shared[threadIdx.x ^ 1];
}

template <bool kBug>
void block_race(float* out) {
  if (threadIdx.x == 0) out[kBug ? 0 : blockIdx.x] = 1;
  if (kBug && threadIdx.x == 0 && blockIdx.x == 0) out[1] = 1;
}

template <bool kBug>
void last_block_adds(float* total, float* partial, unsigned* done) {
  if (threadIdx.x != 0) return;
  partial[blockIdx.x] = float(blockIdx.x + 1);
  if (!kBug) __threadfence();
  if (atomicAdd(done, 1u) + 1 < gridDim.x) return;
  if (!kBug) __threadfence();
  for (unsigned b = 0; b < gridDim.x; ++b) *total += partial[b];
}

template <bool kBug>
void rotate(float* out, float* between) {
  const unsigned n = kThreads * gridDim.x, i = blockIdx.x * kThreads + threadIdx.x;
  between[i] = float(i);
  if (kBug) {
    __syncthreads();
  } else {
    cuda_emulation::grid_barrier(cuda_emulation::site_of(cuda_emulation::Here::current()));
  }
  out[i] = between[(i + kThreads) % n];
}

void fill(float* out, float value) { out[threadIdx.x] = value; }

enum class StreamBug { none, no_event, no_host_wait, reused_early };

bool streams(StreamBug bug) {
  Device<float> x(kThreads), y(kThreads);
  const Stream compute, comm;
  cudaEvent_t ready, sent;
  cudaEventCreateWithFlags(&ready, cudaEventDisableTiming);
  cudaEventCreateWithFlags(&sent, cudaEventDisableTiming);
  start(compute.handle, 1, kThreads, false, fill, x.at, 1.0f);
  cudaEventRecord(ready, compute.handle);
  if (bug != StreamBug::no_event) cudaStreamWaitEvent(comm.handle, ready, 0);
  cudaMemcpyAsync(y.at, x.at, kThreads * sizeof(float), cudaMemcpyDeviceToDevice, comm.handle);
  cudaEventRecord(sent, comm.handle);
  if (bug != StreamBug::reused_early) cudaStreamWaitEvent(compute.handle, sent, 0);
  start(compute.handle, 1, kThreads, false, fill, x.at, 2.0f);
  if (bug != StreamBug::no_host_wait) cudaStreamSynchronize(compute.handle);
  if (bug == StreamBug::reused_early) cudaStreamSynchronize(comm.handle);
  const bool right = x.at[5] == 2 && y.at[5] == 1;
  cudaEventDestroy(ready);
  cudaEventDestroy(sent);
  return right;
}

template <bool kBug>
void tail(float* out) {
  const unsigned i = blockIdx.x * kThreads + threadIdx.x;
  if (kBug || i < 61) out[i] = 1;
}

template <bool kBug>
void overrun(float* out) {
  float* shared = block_shared<float[kThreads], struct Overrun>();
  shared[threadIdx.x + (kBug ? 1 : 0)] = 1;
  __syncthreads();
  out[threadIdx.x] = shared[kThreads / 2];
}

template <bool kBug>
void misaligned(float* out) {
  if (threadIdx.x > 0) return;
  *reinterpret_cast<float4*>(out + (kBug ? 1 : 0)) = {1, 1, 1, 1};
}

template <bool kBug>
void divergent(float* out) {
  if (kBug && threadIdx.x >= 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  out[threadIdx.x] = 1;
}

template <bool kBug>
void left_out(float* out) {
  out[threadIdx.x] = __shfl_sync(kBug ? 1u : kFull, 1.0f, 0);
}

template <bool kBug>
void returned(float* out) {
  if (kBug && threadIdx.x >= 20) return;
  out[threadIdx.x] = __shfl_down_sync(kFull, 1.0f, 1);
}

template <bool kBug>
void beyond(float* out) {  // a block of 24
  out[threadIdx.x] = __shfl_down_sync(kBug ? kFull : (1u << 24) - 1, 1.0f, 0);
}

template <bool kBug>
void deadlock(float* out) {
  if (kBug && threadIdx.x == 5) {
    __syncthreads();
    out[threadIdx.x] = 1;
    return;
  }
  __syncwarp();
  __syncthreads();
  out[threadIdx.x] = 1;
}

float one(size_t) { return 1; }
float mirrored(size_t i) { return float(kThreads - 1 - i % kThreads); }

template <bool kBug>
bool last_block() {
  Device<float> total(1), partial(2);
  Device<unsigned> done(1);
  const Stream stream;
  start(stream.handle, 2, kThreads, false, last_block_adds<kBug>, total.at, partial.at, done.at);
  cudaStreamSynchronize(stream.handle);
  return *total.at == 3;
}

template <bool kBug>
bool grid_sync() {
  Device<float> out(2 * kThreads), between(2 * kThreads);
  const Stream stream;
  start(stream.handle, 2, kThreads, !kBug, rotate<kBug>, out.at, between.at);
  cudaStreamSynchronize(stream.handle);
  bool right = true;
  for (unsigned i = 0; i < 2 * kThreads; ++i) right &= out.at[i] == float((i + kThreads) % (2 * kThreads));
  return right;
}

template <bool kBug>
std::map<std::string, std::function<bool()>> cases() {
  const auto stream_case = [](StreamBug bug) { return [bug] { return streams(kBug ? bug : StreamBug::none); }; };
  return {
      {"publish", [] { return gives(publish<kBug>, 2, kThreads, 2 * kThreads, mirrored); }},
      {"reuse", [] { return gives(reuse<kBug>, 2, kThreads, 2 * kThreads, [](size_t i) { return 2 * mirrored(i); }); }},
      {"nosyncwarp", [] { return gives(neighbours<kBug>, 1, 32, 32, [](size_t i) { return float(i ^ 1); }); }},
      {"blockrace", [] { return gives(block_race<kBug>, 2, kThreads, 2, one); }},
      {"nofence", [] { return last_block<kBug>(); }},
      {"nogridsync", [] { return grid_sync<kBug>(); }},
      {"noevent", stream_case(StreamBug::no_event)},
      {"nohostsync", stream_case(StreamBug::no_host_wait)},
      {"reuseearly", stream_case(StreamBug::reused_early)},
      {"tail", [] { return gives(tail<kBug>, 1, kThreads, 61, one); }},
      {"overrun", [] { return gives(overrun<kBug>, 1, kThreads, kThreads, one); }},
      {"misaligned", [] { return gives(misaligned<kBug>, 1, 32, 8, [](size_t i) { return i < 4 ? 1.0f : 0.0f; }); }},
      {"divergent", [] { return gives(divergent<kBug>, 1, kThreads, kThreads, one); }},
      {"badmask", [] { return gives(left_out<kBug>, 1, 32, 32, one); }},
      {"returned", [] { return gives(returned<kBug>, 1, 32, 32, one); }},
      {"beyond", [] { return gives(beyond<kBug>, 1, 24, 24, one); }},
      {"deadlock", [] { return gives(deadlock<kBug>, 1, 32, 32, one); }},
  };
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return std::fputs("usage: planted_bugs NAME bug|right [forward|reverse|random]\n", stderr), 3;
  const std::string order = argc > 3 ? argv[3] : "forward";
  using cuda_emulation::Order;
  cuda_emulation::options().order = order == "reverse"  ? Order::reverse
                                    : order == "random" ? Order::random
                                                        : Order::forward;
  cuda_emulation::options().race_check_threads = true;
  const auto known = std::string(argv[2]) == "bug" ? cases<true>() : cases<false>();
  const bool right = known.at(argv[1])();
  std::puts(right ? "right" : "wrong");
  return right ? 0 : 1;
}
