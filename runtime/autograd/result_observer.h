// SPDX-License-Identifier: Apache-2.0
// Looks at what each op of a pass gives, forward and backward: how a number that is not finite is traced to its origin.
#pragma once

#include <cstdint>
#include <source_location>
#include <string_view>

#include "kernels/device/view.h"

namespace lockstep {

class ResultObserver {
 public:
  virtual ~ResultObserver() = default;
  // `op`, called at `where`, has been given to the stream, and so its `output`.
  virtual void forward(std::string_view op, const std::source_location& where, const ConstView& output) = 0;
  // The same of its backward: the gradient, so far, of one of its inputs; `variable` is that of the plan, or -1.
  virtual void backward(std::string_view op, const std::source_location& where, const ConstView& gradient,
                        int32_t variable) = 0;
};

}  // namespace lockstep
