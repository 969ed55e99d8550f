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
    float waiting[AdditionTree::kDepth];
    int top = 0;
    for (int32_t s = 0; s < tree.count; ++s) {
      const int input = tree.steps[size_t(s)];
      if (input == AdditionTree::kAdd) {
        --top;
        waiting[top - 1] = kept(waiting[top - 1] + waiting[top]);
      } else {
        waiting[top++] = kept(float(static_cast<const T*>(tree.inputs[size_t(input)])[i]));
      }
    }
    out[i] = T(waiting[0]);
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
