// SPDX-License-Identifier: Apache-2.0
// Convolution as a matrix product over columns: row p of `columns` holds the patch of the input under output pixel p.
// It works on every device; the CPU uses it where no library has a better way.
#pragma once

#include "kernels/conv2d.h"

namespace lockstep {

// columns[pixel, (i, j, c)] = in[y * stride + i - padding, x * stride + j - padding, c]; zero outside.
struct PatchesToColumns {
  float* columns;  // [batch * out_height * out_width, kernel_height * kernel_width * channels]
  const float* in;
  Conv2dSizes sizes;
};
void run(Cpu, Stream&, const PatchesToColumns&);
void run(Cuda, Stream&, const PatchesToColumns&);

// d_in = sum of the patches that cover each input pixel, in the order of (i, j).
struct ColumnsToPatches {
  float* d_in;
  const float* columns;
  Conv2dSizes sizes;
};
void run(Cpu, Stream&, const ColumnsToPatches&);
void run(Cuda, Stream&, const ColumnsToPatches&);

// Makes every row of `out` equal to `row`.
struct RepeatRow {
  float* out;  // [rows, columns]
  const float* row;
  int64_t rows, columns;
};
void run(Cpu, Stream&, const RepeatRow&);
void run(Cuda, Stream&, const RepeatRow&);

// The three convolutions by columns, for views on the device of the stream, and the scratch they need.
int64_t columns_scratch(Stream&, const Conv2d&);
int64_t columns_scratch(Stream&, const Conv2dGradInput&);
int64_t columns_scratch(Stream&, const Conv2dGradWeight&);
void conv2d_by_columns(Stream&, const Conv2d&, std::byte* scratch);
void conv2d_by_columns(Stream&, const Conv2dGradInput&, std::byte* scratch);
void conv2d_by_columns(Stream&, const Conv2dGradWeight&, std::byte* scratch);

}  // namespace lockstep
