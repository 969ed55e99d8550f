// SPDX-License-Identifier: Apache-2.0
#include "kernels/device/check.h"
#include "runtime/step_engine.h"

namespace lockstep {

std::unique_ptr<StepEngine> make_device_step(const StepParts&) {
  fail(ErrorCode::device, "--device cuda: this version trains on the CPU only; use --device cpu");
}

}  // namespace lockstep
