// SPDX-License-Identifier: Apache-2.0
// Two-dimensional convolution (cross-correlation, as every framework defines it), channels last.
#pragma once

#include <string_view>

#include "kernels/device/view.h"
#include "kernels/host_device.h"
#include "kernels/launch.h"

namespace lockstep {

struct Conv2dGeometry {
  int stride = 1;
  int padding = 0;  // zeros on each side
};

// out[n, y, x, o] = sum over (i, j, c) of in[n, y * stride + i - padding, x * stride + j - padding, c]
//                                          * weight[i, j, c, o]       (+ bias[o] when given)
struct Conv2d {
  View out;          // [batch, out_height, out_width, out_channels]
  ConstView in;      // [batch, height, width, channels]
  ConstView weight;  // [kernel_height, kernel_width, channels, out_channels]
  ConstView bias;    // [out_channels]; none if data is null
  Conv2dGeometry geometry;
};
// Computes the gradient of the input into d_in, which it overwrites.
struct Conv2dGradInput {
  View d_in;
  ConstView d_out;
  ConstView weight;
  Conv2dGeometry geometry;
};
// Computes the gradient of the weight into d_weight, which it overwrites. Images are summed in fixed groups, in order.
struct Conv2dGradWeight {
  View d_weight;
  ConstView d_out;
  ConstView in;
  Conv2dGeometry geometry;
};

// The checked shapes and geometry of a convolution as numbers.
struct Conv2dSizes {
  int64_t batch, height, width, channels;
  int64_t kernel_height, kernel_width;
  int64_t out_height, out_width, out_channels;
  int64_t stride, padding;
  HOST_DEVICE int64_t pixels() const { return out_height * out_width; }                  // pixels of one output image
  HOST_DEVICE int64_t patch() const { return kernel_height * kernel_width * channels; }  // inputs of one output pixel
  friend bool operator==(const Conv2dSizes&, const Conv2dSizes&) = default;
};
// Throws Error(plan) naming the kernel when shapes do not fit together.
Conv2dSizes conv2d_sizes(std::string_view kernel, const ConstView& in, const ConstView& weight, const ConstView& out,
                         const Conv2dGeometry& geometry);

// The same for each kernel; the forward pass checks its bias too.
Conv2dSizes conv2d_sizes(const Conv2d&);
Conv2dSizes conv2d_sizes(const Conv2dGradInput&);
Conv2dSizes conv2d_sizes(const Conv2dGradWeight&);

// Size of the output along one dimension. Throws Error(plan) when the kernel does not fit.
int64_t conv2d_out_size(int64_t in, int64_t kernel, const Conv2dGeometry& geometry);

int64_t scratch_bytes(Cpu, Stream&, const Conv2d&);
int64_t scratch_bytes(Cuda, Stream&, const Conv2d&);
void run(Cpu, Stream&, const Conv2d&, std::byte* scratch);
void run(Cuda, Stream&, const Conv2d&, std::byte* scratch);

int64_t scratch_bytes(Cpu, Stream&, const Conv2dGradInput&);
int64_t scratch_bytes(Cuda, Stream&, const Conv2dGradInput&);
void run(Cpu, Stream&, const Conv2dGradInput&, std::byte* scratch);
void run(Cuda, Stream&, const Conv2dGradInput&, std::byte* scratch);

int64_t scratch_bytes(Cpu, Stream&, const Conv2dGradWeight&);
int64_t scratch_bytes(Cuda, Stream&, const Conv2dGradWeight&);
void run(Cpu, Stream&, const Conv2dGradWeight&, std::byte* scratch);
void run(Cuda, Stream&, const Conv2dGradWeight&, std::byte* scratch);

}  // namespace lockstep
