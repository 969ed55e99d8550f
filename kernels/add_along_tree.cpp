// SPDX-License-Identifier: Apache-2.0
#include "kernels/add_along_tree.h"

#include "kernels/backend.h"

namespace lockstep {
namespace {

template <class T, bool kToBf16>
struct AddAt {
  T* out;
  AdditionTree tree;

  HOST_DEVICE static float kept(float x) { return kToBf16 ? float(bfloat16(x)) : x; }

  HOST_DEVICE void operator()(int64_t i) const {
    float left[AdditionTree::kDepth];  // sums that wait for what stands to their right
    int waiting = 0;
    float last = 0;
    for (int32_t s = 0; s < tree.count; ++s) {
      const int input = tree.steps[size_t(s)];
      if (input == AdditionTree::kAdd) {
        last = kept(left[--waiting] + last);
      } else {
        if (s > 0) left[waiting++] = last;
        last = kept(float(static_cast<const T*>(tree.inputs[size_t(input)])[i]));
      }
    }
    out[i] = T(last);
  }
};

}  // namespace

void run(Backend, Stream& stream, const AddAlongTree& k) {
  if (k.out.dtype == DType::bf16)
    return backend::gather(stream, k.out.size(), AddAt<bfloat16, true>{data<bfloat16>(k.out), k.tree});
  if (k.to_bf16) return backend::gather(stream, k.out.size(), AddAt<float, true>{data<float>(k.out), k.tree});
  backend::gather(stream, k.out.size(), AddAt<float, false>{data<float>(k.out), k.tree});
}

}  // namespace lockstep
