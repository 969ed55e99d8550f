// SPDX-License-Identifier: Apache-2.0
// launch(stream, kernel): runs the half of a kernel that belongs to the stream's device.
//
// Note [Scratch]. A kernel that needs memory while it runs has scratch_bytes(half, stream, kernel) beside its run(),
// and run() takes that memory as its last argument. No kernel allocates by itself. A stream that rehearses asks for
// the same bytes and runs nothing, so that a forecast and the run it forecasts count by one formula.
// What dnnl_sgemm, Eigen's products and cuBLASLt's handle allocate inside their calls, and compiled primitives, are not
// counted, because the libraries do not tell.
#pragma once

#include <concepts>
#include <cstddef>
#include <optional>

#include "kernels/config.h"
#include "kernels/device/check.h"
#include "kernels/device/device.h"
#include "kernels/device/kernel_times.h"

namespace lockstep {

// Calls f(Cpu{}) or f(Cuda{}), depending on the stream's device.
template <class F>
auto on_device_of(const Stream& stream, const F& f) {
  if (stream.device().kind == DeviceKind::cpu) return f(Cpu{});
  if constexpr (config::cuda) return f(Cuda{});
  fail(ErrorCode::device, "this build has no CUDA backend; configure with -DLOCKSTEP_CUDA=ON on a machine with nvcc");
}

template <class Half, class Kernel>
concept NeedsScratch = requires(Half half, Stream& stream, const Kernel& kernel) {
  { scratch_bytes(half, stream, kernel) } -> std::same_as<int64_t>;
};

template <class Kernel>
void launch(Stream& stream, const Kernel& kernel) {
  on_device_of(stream, [&](auto half) {
    std::byte* scratch = nullptr;
    if constexpr (NeedsScratch<decltype(half), Kernel>) scratch = stream.scratch(scratch_bytes(half, stream, kernel));
    if (stream.rehearses()) [[unlikely]]
      return;
    std::optional<KernelClock> clock;
    if (stream.kernel_times()) [[unlikely]]
      clock.emplace(*stream.kernel_times(), kernel_type<Kernel>());
    if constexpr (NeedsScratch<decltype(half), Kernel>) {
      run(half, stream, kernel, scratch);
    } else {
      run(half, stream, kernel);
    }
  });
}

// For kernels made of kernels: the scratch that a part needs, and the launch of a part in memory given to the whole.
template <class Kernel>
int64_t scratch_bytes_of(Stream& stream, const Kernel& kernel) {
  return on_device_of(stream, [&](auto half) { return scratch_bytes(half, stream, kernel); });
}
template <class Kernel>
void launch_with(Stream& stream, const Kernel& kernel, std::byte* scratch) {
  on_device_of(stream, [&](auto half) { run(half, stream, kernel, scratch); });
}

// Pieces of scratch start at multiples of this.
inline constexpr int64_t kScratchAlignment = 256;
constexpr int64_t scratch_piece(int64_t bytes) {
  return (bytes + kScratchAlignment - 1) / kScratchAlignment * kScratchAlignment;
}

}  // namespace lockstep
