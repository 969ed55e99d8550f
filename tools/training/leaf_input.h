// SPDX-License-Identifier: Apache-2.0
// A prepared batch as the views that a training step takes.
#pragma once

#include "runtime/data/prefetch.h"
#include "runtime/step/train_step.h"

namespace lockstep {

inline LeafInput leaf_input(const LeafBatch& batch, const Images& images) {
  const int64_t n = batch.count;
  return {.leaf = int(batch.leaf),
          .inputs = {batch.images.data(), DType::f32, DeviceKind::cpu, Shape{n, images.height, images.width, 1}},
          .labels = {batch.labels.data(), DType::i32, DeviceKind::cpu, Shape{n}},
          .sample_ids = {batch.samples.data(), DType::i64, DeviceKind::cpu, Shape{n}}};
}

}  // namespace lockstep
