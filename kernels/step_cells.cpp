// SPDX-License-Identifier: Apache-2.0
#include "kernels/step_cells.h"

#include "kernels/backend.h"

namespace lockstep {
namespace {

struct AddToCell {
  double* row;
  const float* numbers[1 + kMostSums];
  HOST_DEVICE void operator()(int64_t i) const { row[i] += double(numbers[i][0]); }
};

struct SeedElement {
  float* seed;
  float weight;
  const double* scale;
  HOST_DEVICE void operator()(int64_t i) const { seed[i] = scale ? weight * float(*scale) : weight; }
};

}  // namespace

void run(Backend, Stream& stream, const AddToPart& k) {
  check(k.part >= 0 && k.part < k.cells.parts && k.count >= 1 && k.count <= 1 + k.cells.sums, ErrorCode::internal, [&] {
    return str("part ", k.part, " with ", k.count, " numbers has no row among ", k.cells.parts, " rows of ",
               1 + k.cells.sums);
  });
  AddToCell add{&k.cells.loss(k.part), {}};
  for (int32_t i = 0; i < k.count; ++i) add.numbers[i] = data<float>(k.numbers[size_t(i)]);
  backend::gather(stream, k.count, add);
}

void run(Backend, Stream& stream, const SeedGradient& k) {
  backend::gather(stream, k.seed.size(), SeedElement{data<float>(k.seed), k.weight, k.scale});
}

}  // namespace lockstep
