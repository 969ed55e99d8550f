// SPDX-License-Identifier: Apache-2.0
#include "kernels/leaf_results.h"

#include "kernels/backend.h"

namespace lockstep {
namespace {

struct AddToCell {
  double* cells;
  const float *loss, *correct;
  HOST_DEVICE void operator()(int64_t i) const { cells[i] += double(i == 0 ? loss[0] : correct[0]); }
};

struct SeedElement {
  float* seed;
  float weight;
  const double* scale;
  HOST_DEVICE void operator()(int64_t i) const { seed[i] = scale ? weight * float(*scale) : weight; }
};

}  // namespace

void run(Backend, Stream& stream, const AddLeafResults& k) {
  check(k.leaf >= 0 && 2 * k.leaf + 2 <= k.cells.size(), ErrorCode::internal,
        [&] { return str("leaf ", k.leaf, " has no place in ", k.cells.size(), " cells"); });
  backend::gather(stream, 2,
                  AddToCell{data<double>(k.cells) + 2 * k.leaf, data<float>(k.loss), data<float>(k.correct)});
}

void run(Backend, Stream& stream, const SeedGradient& k) {
  backend::gather(stream, k.seed.size(), SeedElement{data<float>(k.seed), k.weight, k.scale});
}

}  // namespace lockstep
