// SPDX-License-Identifier: Apache-2.0
#include <type_traits>

#include "kernels/device/dtype.h"
#include "tests/cuda_emulation/nccl_session.h"

namespace lockstep::emulated_nccl {

namespace {

template <class A>
A add(A a, A b) {
  if constexpr (std::is_integral_v<A>) {
    using U = std::make_unsigned_t<A>;
    return A(U(a) + U(b));
  } else {
    return a + b;
  }
}

template <class T>
void reduce_typed(ncclRedOp_t op, const std::vector<const void*>& in, void* out, int64_t count) {
  using A = std::conditional_t<std::is_same_v<T, bfloat16> || std::is_same_v<T, float16>, float, T>;
  for (int64_t i = 0; i < count; ++i) {
    A value = A(static_cast<const T*>(in[0])[i]);
    for (size_t k = 1; k < in.size(); ++k) {
      const A next = A(static_cast<const T*>(in[k])[i]);
      if (op == ncclSum) value = add(value, next);
      if (op == ncclMax && next > value) value = next;
      if (op == ncclMin && next < value) value = next;
    }
    static_cast<T*>(out)[i] = T(value);
  }
}

}  // namespace

void reduce(ncclDataType_t type, ncclRedOp_t op, const std::vector<const void*>& in, void* out, int64_t count) {
  switch (type) {
    case ncclFloat32:
      return reduce_typed<float>(op, in, out, count);
    case ncclFloat64:
      return reduce_typed<double>(op, in, out, count);
    case ncclBfloat16:
      return reduce_typed<bfloat16>(op, in, out, count);
    case ncclFloat16:
      return reduce_typed<float16>(op, in, out, count);
    case ncclInt32:
      return reduce_typed<int32_t>(op, in, out, count);
    case ncclInt64:
      return reduce_typed<int64_t>(op, in, out, count);
    default:
      return;  // refused at the door
  }
}

}  // namespace lockstep::emulated_nccl
