// SPDX-License-Identifier: Apache-2.0
#include "optimizers/bounds.h"

#include "kernels/backend.h"

namespace lockstep {
namespace {

struct BoundElement {
  float minimum, maximum;
  const StepScalars* decision;

  HOST_DEVICE void operator()(float& param) const {
    if (decision->skip) return;
    param = param < minimum ? minimum : (param > maximum ? maximum : param);
  }
};

}  // namespace

void run(Backend, Stream& stream, const KeepWithin& k) {
  const BoundElement element{float(k.bounds.minimum), float(k.bounds.maximum), k.decision};
  if (k.param.dtype == DType::bf16)
    return backend::elementwise(stream, k.param.size(), element, inout(data<bfloat16>(k.param)));
  backend::elementwise(stream, k.param.size(), element, inout(data<float>(k.param)));
}

}  // namespace lockstep
