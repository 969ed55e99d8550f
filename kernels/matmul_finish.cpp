// SPDX-License-Identifier: Apache-2.0
#include "kernels/matmul_finish.h"

#include "kernels/backend.h"
#include "kernels/pointwise.h"

namespace lockstep {
namespace {

template <class T>
struct FinishAt {
  T* inout;
  const T* bias;  // or null
  int64_t columns;
  bool relu;

  HOST_DEVICE void operator()(int64_t i) const {
    const float sum = bias ? float(inout[i]) + float(bias[i % columns]) : float(inout[i]);
    inout[i] = T(relu ? Relu::value(sum) : sum);
  }
};

template <class T>
void finish(Stream& stream, const FinishProduct& k) {
  const T* bias = k.bias.shape.rank() == 1 ? data<T>(k.bias) : nullptr;
  backend::gather(stream, k.inout.size(),
                  FinishAt<T>{data<T>(k.inout), bias, k.inout.shape[1], k.activation == Activation::relu});
}

}  // namespace

void run(Backend, Stream& stream, const FinishProduct& k) {
  if (k.inout.dtype == DType::bf16) return finish<bfloat16>(stream, k);
  if (k.inout.dtype == DType::f16) return finish<float16>(stream, k);
  finish<float>(stream, k);
}

}  // namespace lockstep
