// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/optimizer_arena.h"

#include <algorithm>

#include "kernels/chunk_squares.h"
#include "kernels/device/check.h"
#include "kernels/device/transfer.h"
#include "kernels/launch.h"
#include "kernels/operand.h"
#include "kernels/pointwise.h"
#include "tools/bench/memory_roof.h"

namespace lockstep {
namespace {

constexpr int64_t kSteps = 1000;  // already taken, so that corrections of the first steps are gone

template <class T>
Buffer upload(const std::vector<T>& values, Pool& pool, Stream& stream) {
  const int64_t bytes = int64_t(values.size() * sizeof(T));
  Buffer buffer(pool, std::max<int64_t>(1, bytes), Purpose::scratch);
  copy(stream, buffer.data(), values.data(), bytes);
  stream.synchronize();  // the vector may go
  return buffer;
}

std::vector<double> initial_scalars(const Optimizer& optimizer) {
  std::vector<double> values;
  for (const ScalarState& scalar : optimizer.scalars()) values.push_back(scalar.initial);
  return values;
}

}  // namespace

OptimizerArena::OptimizerArena(const Optimizer& optimizer, const TensorSizes& sizes, Stream& stream,
                               const Precision& precision)
    : optimizer_(optimizer),
      precision_(precision),
      stream_(stream),
      pool_(stream.device()),
      elements_(sizes.tensors * sizes.elements),
      param_(filled(-1, 1)),
      grad_(filled(-1, 1)),
      iteration_(upload(std::vector<int64_t>{kSteps}, pool_, stream)),
      learning_rate_(upload(std::vector<double>{optimizer.learning_rate()}, pool_, stream)),
      scalars_(upload(initial_scalars(optimizer), pool_, stream)),
      decision_(upload(std::vector<StepScalars>(1), pool_, stream)),
      constants_(pool_, optimizer.constants_bytes(), Purpose::scratch) {
  for (size_t s = 0; s < optimizer.slots().size(); ++s) slots_.push_back(filled(0, 1));
  if (is_narrow(precision.weights)) {
    narrow_ = Buffer(pool_, elements_ * size_of(precision.weights), Purpose::scratch);
    launch(stream, Copy{narrow_view(), array(param_)});
  }
  if (sizes.tensors == 1 && !is_narrow(precision.weights)) return;
  check(sizes.elements % kGranule == 0, ErrorCode::internal,
        [&] { return str("expected tensors of a multiple of ", kGranule, ", got ", sizes.elements); });
  std::vector<uint32_t> variable_of;
  for (int64_t at = 0; at < elements_; at += kGranule) variable_of.push_back(uint32_t(at / sizes.elements));
  variable_of_ = upload(variable_of, pool_, stream);
  std::vector<float> factors;
  for (int64_t t = 0; t < sizes.tensors; ++t) factors.push_back(1 / float(1 + t % 7));
  factors_ = upload(factors, pool_, stream);
  numbers_ = upload(std::vector<int64_t>(size_t(sizes.tensors)), pool_, stream);
}

Buffer OptimizerArena::filled(float low, float high) {
  Buffer buffer(pool_, elements_ * size_of(DType::f32), Purpose::scratch);
  launch(stream_, FillSpread{array(buffer), low, high});
  return buffer;
}

StepState OptimizerArena::state() const {
  return {.iteration = static_cast<int64_t*>(iteration_.data()),
          .learning_rate = static_cast<double*>(learning_rate_.data()),
          .scalars = static_cast<double*>(scalars_.data()),
          .decision = static_cast<StepScalars*>(decision_.data()),
          .constants = constants_.data()};
}

GranuleMap OptimizerArena::granule_map() const {
  return {.variable_of = static_cast<const uint32_t*>(variable_of_.data()),
          .factors = static_cast<const float*>(factors_.data()),
          .numbers = static_cast<const int64_t*>(numbers_.data())};
}

// As runtime/step/gradient_norms.cpp does for one variable of all elements.
void OptimizerArena::add_squares() {
  const Shape chunks{SquareChunks{elements_}.count()};
  launch(stream_, ChunkSquares{.sums = chunks_.view(DType::f64, chunks),
                               .values = array(grad_),
                               .begins = begins_.view(DType::i64, chunks),
                               .ends = ends_.view(DType::i64, chunks)});
  launch(stream_, SumsOfChunks{.sums = squares_.view(DType::f64, Shape{1}),
                               .chunks = chunks_.view(DType::f64, chunks),
                               .first_chunk = first_chunk_.view(DType::i64, Shape{2})});
}

DeviceCall OptimizerArena::step(Phase phase) {
  std::vector<View> slots;
  for (const Buffer& slot : slots_) slots.push_back(array(slot));
  if (phase == Phase::whole) {
    std::vector<int64_t> begins, ends;
    const SquareChunks chunks{elements_};
    for (int64_t chunk = 0; chunk < chunks.count(); ++chunk) {
      begins.push_back(chunks.begin(chunk));
      ends.push_back(chunks.end(chunk));
    }
    begins_ = upload(begins, pool_, stream_);
    ends_ = upload(ends, pool_, stream_);
    chunks_ = upload(std::vector<double>(begins.size()), pool_, stream_);
    first_chunk_ = upload(std::vector<int64_t>{0, int64_t(begins.size())}, pool_, stream_);
    squares_ = upload(std::vector<double>(1), pool_, stream_);
  }
  return {[this, slots, phase] {
            if (phase == Phase::whole) add_squares();
            optimizer_.prepare(stream_, state(), {}, nullptr);
            optimizer_.update(stream_, state(),
                              {.param = precision_.stochastic_rounding ? narrow_view() : array(param_),
                               .grad = array(grad_),
                               .slots = slots,
                               .working_copy = precision_.has_masters() ? narrow_view() : View{},
                               .granules = granule_map()});
          },
          [this] {
            launch(stream_, FillSpread{array(grad_), -1, 1});
          }};
}

}  // namespace lockstep
