// SPDX-License-Identifier: Apache-2.0
// The clipping options of reduced gradients. The definitions are Keras', g being a variable's gradient over the whole
// batch.
#pragma once

namespace lockstep {

// At most one is above 0; 0: off.
struct ClipOptions {
  double clipnorm = 0;         // g * c / max(norm of g, c), for each variable
  double global_clipnorm = 0;  // g * c * min(1 / N, 1 / c), N being the norm over all variables
  double clipvalue = 0;        // clamps every element to [-c, c]
  bool by_norm() const { return clipnorm > 0 || global_clipnorm > 0; }
};
// Error(usage) for options that are negative, not finite or asked for together.
void check_clip_options(const ClipOptions& options);

}  // namespace lockstep
