// SPDX-License-Identifier: Apache-2.0
// The cells that ranks exchange in every step: the result of each part of the batch, and what each rank has seen. Also
// where the backward pass of a part begins.
#pragma once

#include <array>
#include <cstdint>

#include "kernels/device/view.h"
#include "kernels/host_device.h"
#include "kernels/launch.h"

namespace lockstep {

// The most named sums that a step can carry beside the loss.
inline constexpr int32_t kMostSums = 15;

// f64 cells in memory of a device: for each part of the batch a row with the sum of its losses and its named sums, then
// a verdict for each rank.
struct StepCells {
  double* values = nullptr;
  int32_t parts = 0;
  int32_t sums = 0;  // named sums of a part, at most kMostSums
  int32_t ranks = 0;

  HOST_DEVICE double& loss(int32_t part) const { return values[int64_t(part) * (1 + sums)]; }
  HOST_DEVICE double& sum(int32_t part, int32_t number) const {
    return values[int64_t(part) * (1 + sums) + 1 + number];
  }
  HOST_DEVICE double& verdict(int32_t rank) const { return values[int64_t(parts) * (1 + sums) + rank]; }
  static constexpr int64_t count(int64_t parts, int64_t sums, int64_t ranks) { return parts * (1 + sums) + ranks; }
  int64_t count() const { return count(parts, sums, ranks); }
};

// Adds to the row of `part`: numbers[0] to the loss, numbers[1 + i] to sum i. Each is [] f32 in memory of the device.
struct AddToPart {
  StepCells cells;
  int32_t part;
  int32_t count;  // how many numbers: one, and the sums that the model returned
  std::array<ConstView, 1 + size_t(kMostSums)> numbers;
};
void run(Cpu, Stream&, const AddToPart&);
void run(Cuda, Stream&, const AddToPart&);

// seed[i] = weight * scale[0]: the derivative of the whole loss by the loss of a sample.
struct SeedGradient {
  View seed;
  float weight;
  const double* scale;  // in memory of the device; null means 1
};
void run(Cpu, Stream&, const SeedGradient&);
void run(Cuda, Stream&, const SeedGradient&);

}  // namespace lockstep
