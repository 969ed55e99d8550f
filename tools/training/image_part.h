// SPDX-License-Identifier: Apache-2.0
// Turns a prepared part of a batch of images into what a training step takes.
#pragma once

#include "runtime/data/prefetch.h"
#include "runtime/data/step_input.h"
#include "runtime/models/model.h"
#include "runtime/step/memory_rehearsal.h"

namespace lockstep {

inline BatchPart image_part(const ImagePart& part, const Images& images) {
  const int64_t n = part.count;
  return {.number = int(part.number),
          .batch = Batch(
              {{"images", {part.images.data(), DType::f32, DeviceKind::cpu, Shape{n, images.height, images.width, 1}}},
               {"labels", ConstView{part.labels.data(), DType::i32, DeviceKind::cpu, Shape{n}}}},
              {part.samples.data(), DType::i64, DeviceKind::cpu, Shape{n}})};
}

// The shape of such a part, before there are images.
inline PartShape image_part_shape(int64_t height, int64_t width, int64_t samples, int64_t micro_batches) {
  return {image_columns(height, width), samples, micro_batches};
}

}  // namespace lockstep
