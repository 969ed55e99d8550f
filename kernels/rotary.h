// SPDX-License-Identifier: Apache-2.0
// Rotary positions (Su et al. 2021): pairs of elements of every head are turned by angles that grow with the position.
#pragma once

#include "kernels/device/view.h"
#include "kernels/launch.h"

namespace lockstep {

// Which elements of a head of size d make a pair: i and i + d / 2 (Llama's files for Hugging Face), or 2 i and 2 i + 1.
enum class RotaryPairs : uint8_t { halves, neighbours };

struct RotaryGeometry {
  int64_t length;  // positions of a sample
  int64_t head_size;
  float theta = 10000;  // pair i of position t is turned by t / theta^(2 i / head_size)
  RotaryPairs pairs = RotaryPairs::halves;
  int64_t first_position = 0;
};

// out = in turned; backwards (`inverse`) it is turned the other way. out may be in.
struct Rotate {
  View out;
  ConstView in;  // [samples * length, heads * head_size], f32 or bf16, as out
  RotaryGeometry geometry;
  bool inverse = false;
};
int64_t scratch_bytes(Cpu, Stream&, const Rotate&);
void run(Cpu, Stream&, const Rotate&, std::byte* scratch);
int64_t scratch_bytes(Cuda, Stream&, const Rotate&);
void run(Cuda, Stream&, const Rotate&, std::byte* scratch);

}  // namespace lockstep
