// SPDX-License-Identifier: Apache-2.0
// Kernels that only move memory: the roofs that memory-bound kernels are measured against.
#pragma once

#include "kernels/device/device.h"
#include "kernels/device/view.h"

namespace lockstep {

// x[i] += constant: 8 bytes per element. It walks four quarters of x side by side: one stream alone leaves part of the
// memory system idle, and other kernels would exceed that roof.
struct AddInPlace {
  View x;
  float constant;
};
void run(Cpu, Stream&, const AddInPlace&);
void run(Cuda, Stream&, const AddInPlace&);

// out[i] = in[i]: 8 bytes per element
struct CopyArray {
  View out;
  ConstView in;
};
void run(Cpu, Stream&, const CopyArray&);
void run(Cuda, Stream&, const CopyArray&);

// out[i] = ordinary numbers in [low, high), no two neighbours alike: power and speed depend on data.
struct FillSpread {
  View out;
  float low, high;
};
void run(Cpu, Stream&, const FillSpread&);
void run(Cuda, Stream&, const FillSpread&);

}  // namespace lockstep
