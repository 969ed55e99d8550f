// SPDX-License-Identifier: Apache-2.0
// What a model is given and what it gives back: named columns of any dtype, a loss per sample, named sums.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/autograd/context.h"
#include "runtime/autograd/tensor.h"

namespace lockstep {

// One named array of a batch, [samples, ...], borrowed: the values must outlive the batch.
struct Column {
  std::string name;
  ConstView values;

  Column(std::string column_name, const ConstView& view) : name(std::move(column_name)), values(view) {}
  // The values of the samples follow one another, each of shape `sample`. Error(usage) where they do not make a whole
  // number of samples.
  template <class T>
  Column(std::string column_name, const std::vector<T>& all, const Shape& sample = {})
      : Column(std::move(column_name), all.data(), dtype_of<T>(), int64_t(all.size()), sample) {}

 private:
  Column(std::string column_name, const void* values, DType dtype, int64_t elements, const Shape& sample);
};

// A column before there are values.
struct ColumnShape {
  std::string name;
  DType dtype;
  Shape sample;       // shape of one sample: [height, width, channels]; [] for a number
  int64_t below = 0;  // whole numbers are below this; 0: any
};

// Samples that go through a model together.
class Batch {
 public:
  Batch() = default;
  // The columns have equally many samples and different names; Error(usage) otherwise. `sample_ids` ([samples] i64) are
  // the numbers of the samples in the data: random numbers of an op are a function of them, never of rank or order.
  // Without them the trainer numbers samples in the order it is given them.
  explicit Batch(std::vector<Column> columns, const ConstView& sample_ids = {});

  int64_t samples() const { return samples_; }
  const std::vector<Column>& columns() const { return columns_; }
  const ConstView& sample_ids() const { return sample_ids_; }
  // A column as a tensor. Error(usage) names the columns that exist.
  Tensor operator[](std::string_view name) const;
  // Samples [begin, end).
  Batch rows(int64_t begin, int64_t end) const;

 private:
  friend class BatchUpload;
  std::vector<Column> columns_;
  ConstView sample_ids_;
  int64_t samples_ = 0;
};

// A number per sample, [samples] f32, whose sum over the batch of a step is reported by name.
struct NamedSum {
  std::string name;
  Tensor values;
};

// By what the losses of a batch are divided: by the number of samples, or by the total of a named sum over `unit`.
struct LossDivisor {
  int32_t sum = -1;  // number of the named sum; -1: samples
  double unit = 1;   // the sum of a sample that weighs one
  friend bool operator==(const LossDivisor&, const LossDivisor&) = default;
  // For a batch of so many samples, whose sum is `total`. If nothing weighs, the losses are 0 and samples divide them.
  double of(int64_t samples, double total) const { return sum >= 0 && total > 0 ? total / unit : double(samples); }
};

// What a model returns for a batch.
struct Results {
  // [samples] f32, on the tape; a step follows the gradient of its mean over the batch, or of its total over `divisor`.
  Tensor loss;
  std::vector<NamedSum> sums = {};
  LossDivisor divisor = {};
};

// A model: ops on a batch. It must leave numbers to ops; a model that reads elements of tensors on the host cannot be
// rehearsed.
using Forward = std::function<Results(Context&, const Batch&)>;

}  // namespace lockstep
