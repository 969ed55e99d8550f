// SPDX-License-Identifier: Apache-2.0
// Stands in for NVIDIA's header of this name where a kernel is compiled for the emulated device: the same names as in
// CUDA C++, as plain C++.
#pragma once

#include <cuda_runtime_api.h>
#include <vector_functions.h>
#include <vector_types.h>

#include <cmath>
#include <source_location>
#include <tuple>
#include <type_traits>

#include "tests/cuda_emulation/emulation.h"
#include "tests/cuda_emulation/threads.h"

// NVIDIA's host headers make these expand to nothing, which for __shared__ would give every thread an array of its own.
#undef __shared__
#define __shared__ static_assert(false, "share memory by kernels/cuda_shared.cuh");
#undef __global__
#define __global__
#undef __launch_bounds__
#define __launch_bounds__(...)

namespace cuda_emulation {

// threadIdx.x and its kind: asked for when they are read, because they differ from thread to thread.
template <auto kWhere, auto kAxis>
struct Coordinate {
  operator unsigned() const { return kWhere().*kAxis; }
};
template <auto kWhere, class Three>
struct Coordinates {
  [[no_unique_address]] Coordinate<kWhere, &Three::x> x;
  [[no_unique_address]] Coordinate<kWhere, &Three::y> y;
  [[no_unique_address]] Coordinate<kWhere, &Three::z> z;
};

using Here = std::source_location;
inline Site site_of(const Here& here) { return {here.file_name(), here.line() | (here.column() << 20)}; }

template <class... Parameter, class... Argument>
cudaError_t launch_kernel(const cudaLaunchConfig_t& config, void (*kernel)(Parameter...), Argument&&... argument) {
  Launch grid{config.gridDim, config.blockDim, config.dynamicSmemBytes, false};
  for (unsigned i = 0; i < config.numAttrs; ++i)
    if (config.attrs[i].id == cudaLaunchAttributeCooperative) grid.cooperative = config.attrs[i].val.cooperative != 0;
  // Arguments are copied at the launch, as on a device.
  return launch(grid, config.stream,
                [kernel, parameters = std::tuple<Parameter...>(static_cast<Parameter>(argument)...)] {
                  std::apply(kernel, parameters);
                });
}

template <class T, class Change>
T read_modify_write(T* address, const Change& change) {
  before_atomic(address);
  T old, next;
  __atomic_load(address, &old, __ATOMIC_RELAXED);
  do next = change(old);
  while (!__atomic_compare_exchange(address, &old, &next, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
  after_atomic(address);
  return old;
}

}  // namespace cuda_emulation

inline constexpr cuda_emulation::Coordinates<cuda_emulation::thread_index, uint3> threadIdx{};
inline constexpr cuda_emulation::Coordinates<cuda_emulation::block_index, uint3> blockIdx{};
inline constexpr cuda_emulation::Coordinates<cuda_emulation::block_size, dim3> blockDim{};
inline constexpr cuda_emulation::Coordinates<cuda_emulation::grid_size, dim3> gridDim{};

template <class... Parameter, class... Argument>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t* config, void (*kernel)(Parameter...), Argument&&... argument) {
  return cuda_emulation::launch_kernel(*config, kernel, static_cast<Argument&&>(argument)...);
}

inline void __syncthreads(cuda_emulation::Here here = cuda_emulation::Here::current()) {
  cuda_emulation::block_barrier(cuda_emulation::BarrierKind::plain, 0, cuda_emulation::site_of(here));
}
inline int __syncthreads_count(int predicate, cuda_emulation::Here here = cuda_emulation::Here::current()) {
  return cuda_emulation::block_barrier(cuda_emulation::BarrierKind::count, predicate, cuda_emulation::site_of(here));
}
inline int __syncthreads_and(int predicate, cuda_emulation::Here here = cuda_emulation::Here::current()) {
  return cuda_emulation::block_barrier(cuda_emulation::BarrierKind::all, predicate, cuda_emulation::site_of(here));
}
inline int __syncthreads_or(int predicate, cuda_emulation::Here here = cuda_emulation::Here::current()) {
  return cuda_emulation::block_barrier(cuda_emulation::BarrierKind::any, predicate, cuda_emulation::site_of(here));
}
inline void __syncwarp(unsigned mask = ~0u, cuda_emulation::Here here = cuda_emulation::Here::current()) {
  cuda_emulation::warp_barrier(mask, cuda_emulation::site_of(here));
}

template <class T>
T __shfl_sync(unsigned mask, T value, int lane, int width = 32,
              cuda_emulation::Here here = cuda_emulation::Here::current()) {
  using namespace cuda_emulation;
  return value_of<T>(warp_exchange(WarpKind::index, mask, bits_of(value), lane, width, site_of(here)));
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned by, int width = 32,
                 cuda_emulation::Here here = cuda_emulation::Here::current()) {
  using namespace cuda_emulation;
  return value_of<T>(warp_exchange(WarpKind::up, mask, bits_of(value), int(by), width, site_of(here)));
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned by, int width = 32,
                   cuda_emulation::Here here = cuda_emulation::Here::current()) {
  using namespace cuda_emulation;
  return value_of<T>(warp_exchange(WarpKind::down, mask, bits_of(value), int(by), width, site_of(here)));
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int with, int width = 32,
                  cuda_emulation::Here here = cuda_emulation::Here::current()) {
  using namespace cuda_emulation;
  return value_of<T>(warp_exchange(WarpKind::exclusive_or, mask, bits_of(value), with, width, site_of(here)));
}
inline unsigned __ballot_sync(unsigned mask, int predicate,
                              cuda_emulation::Here here = cuda_emulation::Here::current()) {
  using namespace cuda_emulation;
  return unsigned(warp_exchange(WarpKind::ballot, mask, predicate != 0, 0, 32, site_of(here)));
}
inline int __any_sync(unsigned mask, int predicate, cuda_emulation::Here here = cuda_emulation::Here::current()) {
  using namespace cuda_emulation;
  return int(warp_exchange(WarpKind::any, mask, predicate != 0, 0, 32, site_of(here)));
}
inline int __all_sync(unsigned mask, int predicate, cuda_emulation::Here here = cuda_emulation::Here::current()) {
  using namespace cuda_emulation;
  return int(warp_exchange(WarpKind::all, mask, predicate != 0, 0, 32, site_of(here)));
}

inline void __threadfence() { cuda_emulation::fence(); }
inline void __threadfence_block() { cuda_emulation::fence(); }
inline void __threadfence_system() { cuda_emulation::fence(); }

template <class T>
T atomicAdd(T* address, T value) {
  return cuda_emulation::read_modify_write(address, [value](T old) { return T(old + value); });
}
template <class T>
T atomicMax(T* address, T value) {
  return cuda_emulation::read_modify_write(address, [value](T old) { return old < value ? value : old; });
}
template <class T>
T atomicMin(T* address, T value) {
  return cuda_emulation::read_modify_write(address, [value](T old) { return value < old ? value : old; });
}
template <class T>
T atomicExch(T* address, T value) {
  return cuda_emulation::read_modify_write(address, [value](T) { return value; });
}
template <class T>
T atomicCAS(T* address, T expected, T value) {
  return cuda_emulation::read_modify_write(address, [=](T old) { return old == expected ? value : old; });
}
