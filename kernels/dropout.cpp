// SPDX-License-Identifier: Apache-2.0
#include "kernels/dropout.h"

#include "kernels/backend.h"
#include "kernels/philox.h"
#include "kernels/pointwise.h"

namespace lockstep {
namespace {

template <class T>
struct DropAt {
  T* out;
  const T* in;
  const int64_t* sample_ids;
  const int64_t* key;
  uint32_t op;
  uint32_t threshold;  // draws below it are dropped, of 2^32
  float keep;
  int64_t columns, groups;

  // Item i covers four neighbouring columns, as many as one Philox call yields.
  HOST_DEVICE void operator()(int64_t i) const {
    const int64_t row = i / groups, group = i % groups;
    const Philox4 draw =
        philox4x32(uint64_t(*key), uint64_t(sample_ids[row]), (uint64_t(op) << 32) | uint64_t(uint32_t(group)));
    const T* x = in + row * columns;
    T* y = out + row * columns;
    for (int j = 0; j < 4; ++j) {
      const int64_t c = group * 4 + j;
      if (c < columns) y[c] = T(float(x[c]) * (draw.v[j] < threshold ? 0.0f : keep));
    }
  }
};

}  // namespace

void run(Backend, Stream& stream, const Dropout& k) {
  check_same_size("dropout", k.out, k.in);
  const int64_t rows = k.sample_ids.size(), columns = rows > 0 ? k.in.size() / rows : 0;
  check(rows * columns == k.in.size(), ErrorCode::internal,
        [&] { return str("dropout: ", to_string(k.in.shape), " does not divide into ", rows, " samples"); });
  const int64_t groups = (columns + 3) / 4;
  const uint32_t threshold = uint32_t(double(k.rate) * 4294967296.0);
  dispatch_activation(k.in.dtype, [&]<class T>(TypeTag<T>) {
    backend::gather(stream, rows * groups,
                    DropAt<T>{data<T>(k.out), data<T>(k.in), data<int64_t>(k.sample_ids), data<int64_t>(k.key), k.op,
                              threshold, 1 / (1 - k.rate), columns, groups});
  });
}

}  // namespace lockstep
