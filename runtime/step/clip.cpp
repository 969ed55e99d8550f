// SPDX-License-Identifier: Apache-2.0
#include "runtime/step/clip.h"

#include <cmath>

#include "kernels/device/check.h"
#include "kernels/device/number_text.h"

namespace lockstep {

void check_clip_options(const ClipOptions& options) {
  int chosen = 0;
  const auto look_at = [&](const char* name, double value) {
    check(std::isfinite(value) && value >= 0, ErrorCode::usage, [&] {
      return str(name, ": expected a number above 0 to clip gradients to, or 0 for no clipping, got ", exact(value));
    });
    chosen += value > 0;
  };
  look_at("clipnorm", options.clipnorm);
  look_at("global_clipnorm", options.global_clipnorm);
  look_at("clipvalue", options.clipvalue);
  check(chosen <= 1, ErrorCode::usage, [&] {
    return str("expected at most one of clipnorm, global_clipnorm and clipvalue, got ", exact(options.clipnorm), ", ",
               exact(options.global_clipnorm), " and ", exact(options.clipvalue), "; set the others to 0");
  });
}

}  // namespace lockstep
