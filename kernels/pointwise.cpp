// SPDX-License-Identifier: Apache-2.0
#include "kernels/pointwise.h"

#include "kernels/backend.h"

namespace lockstep {
namespace {

template <class F>
struct Value {
  HOST_DEVICE void operator()(float& y, float x) const { y = F::value(x); }
};
template <class F>
struct Slope {
  HOST_DEVICE void operator()(float& dx, float dy, float x) const { dx = dy * F::slope(x); }
};
template <class F>
struct Pair {
  HOST_DEVICE void operator()(float& y, float a, float b) const { y = F::value(a, b); }
};
struct Assign {
  HOST_DEVICE void operator()(float& y, float x) const { y = x; }
};
struct Accumulate {
  HOST_DEVICE void operator()(float& y, float x) const { y += x; }
};
HOST_DEVICE inline float to_bf16(float x) { return float(bfloat16(x)); }
struct RoundOne {
  HOST_DEVICE void operator()(float& y) const { y = to_bf16(y); }
};
struct AccumulateRounded {
  HOST_DEVICE void operator()(float& y, float x) const { y = to_bf16(to_bf16(y) + to_bf16(x)); }
};
struct Constant {
  float value;
  HOST_DEVICE void operator()(float& y) const { y = value; }
};
template <class T>
struct SpreadOne {
  const T* value;
  float scale;
  HOST_DEVICE void operator()(float& y) const { y = float(value[0]) * scale; }
};

}  // namespace

template <class F>
void run(Backend, Stream& stream, const Unary<F>& k) {
  check_same_size("unary", k.out, k.in);
  dispatch_float(k.in.dtype, [&]<class T>(TypeTag<T>) {
    backend::elementwise(stream, k.in.size(), Value<F>{}, out(data<T>(k.out)), in(data<T>(k.in)));
  });
}

template <class F>
void run(Backend, Stream& stream, const UnaryGrad<F>& k) {
  check_same_size("unary gradient", k.d_in, k.d_out, k.in);
  dispatch_float(k.in.dtype, [&]<class T>(TypeTag<T>) {
    backend::elementwise(stream, k.in.size(), Slope<F>{}, out(data<T>(k.d_in)), in(data<T>(k.d_out)),
                         in(data<T>(k.in)));
  });
}

template <class F>
void run(Backend, Stream& stream, const Binary<F>& k) {
  check_same_size("binary", k.out, k.a, k.b);
  dispatch_float(k.out.dtype, [&]<class T>(TypeTag<T>) {
    backend::elementwise(stream, k.out.size(), Pair<F>{}, out(data<T>(k.out)), in(data<T>(k.a)), in(data<T>(k.b)));
  });
}

void run(Backend, Stream& stream, const Fill& k) {
  dispatch_float(k.out.dtype, [&]<class T>(TypeTag<T>) {
    backend::elementwise(stream, k.out.size(), Constant{k.value}, out(data<T>(k.out)));
  });
}

void run(Backend, Stream& stream, const Copy& k) {
  check(k.out.size() == k.in.size(), ErrorCode::internal,
        [&] { return str("copy: expected ", k.out.size(), " elements, got ", k.in.size()); });
  dispatch_float(k.out.dtype, [&]<class T>(TypeTag<T>) {
    dispatch_float(k.in.dtype, [&]<class S>(TypeTag<S>) {
      backend::elementwise(stream, k.out.size(), Assign{}, out(data<T>(k.out)), in(data<S>(k.in)));
    });
  });
}

void run(Backend, Stream& stream, const AddInto& k) {
  check_same_size("add into", k.inout, k.in);
  dispatch_float(k.in.dtype, [&]<class T>(TypeTag<T>) {
    backend::elementwise(stream, k.in.size(), Accumulate{}, inout(data<T>(k.inout)), in(data<T>(k.in)));
  });
}

void run(Backend, Stream& stream, const RoundToBf16& k) {
  backend::elementwise(stream, k.inout.size(), RoundOne{}, inout(data<float>(k.inout)));
}

void run(Backend, Stream& stream, const AddIntoBf16& k) {
  check_same_size("add into bf16", k.inout, k.in);
  backend::elementwise(stream, k.in.size(), AccumulateRounded{}, inout(data<float>(k.inout)), in(data<float>(k.in)));
}

void run(Backend, Stream& stream, const Spread& k) {
  check(k.value.size() == 1, ErrorCode::internal,
        [&] { return str("spread: expected one value, got shape ", to_string(k.value.shape)); });
  dispatch_float(k.out.dtype, [&]<class T>(TypeTag<T>) {
    backend::elementwise(stream, k.out.size(), SpreadOne<T>{data<T>(k.value), k.scale}, out(data<T>(k.out)));
  });
}

template void run(Backend, Stream&, const Unary<Relu>&);
template void run(Backend, Stream&, const Unary<Tanh>&);
template void run(Backend, Stream&, const Unary<Sigmoid>&);
template void run(Backend, Stream&, const Unary<Gelu>&);
template void run(Backend, Stream&, const UnaryGrad<Relu>&);
template void run(Backend, Stream&, const UnaryGrad<Tanh>&);
template void run(Backend, Stream&, const UnaryGrad<Sigmoid>&);
template void run(Backend, Stream&, const UnaryGrad<Gelu>&);
template void run(Backend, Stream&, const Binary<Plus>&);
template void run(Backend, Stream&, const Binary<Times>&);

}  // namespace lockstep
