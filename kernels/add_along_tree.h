// SPDX-License-Identifier: Apache-2.0
// Adds arrays up along a binary tree in one pass over them: the device's half of TreeSum (collectives/gradients).
#pragma once

#include <array>
#include <cstdint>

#include "kernels/device/view.h"
#include "kernels/launch.h"

namespace lockstep {

// The additions in postfix order: a number is an input, kAdd adds the two values that came last.
struct AdditionTree {
  static constexpr int kMostInputs = 64;
  static constexpr int kDepth = 16;  // values that wait for another one, at most
  static constexpr int8_t kAdd = -1;
  std::array<const void*, kMostInputs> inputs{};
  std::array<int8_t, 2 * kMostInputs> steps{};
  int32_t count = 0;  // of steps: one less than twice the inputs
};

// out[i] = the sum of the inputs at i along the tree. Inputs have out's dtype and size; out may be one of them.
struct AddAlongTree {
  View out;  // f32 or bf16
  AdditionTree tree;
  bool to_bf16 = false;  // every input and every sum is rounded to bf16, as they are kept anyway where out is bf16
};
void run(Cpu, Stream&, const AddAlongTree&);
void run(Cuda, Stream&, const AddAlongTree&);

}  // namespace lockstep
