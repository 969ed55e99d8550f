// SPDX-License-Identifier: Apache-2.0
#include "runtime/data/batch.h"

#include <algorithm>

namespace lockstep {
namespace {

Shape with_samples(int64_t samples, std::span<const int64_t> sample) {
  std::vector<int64_t> sizes{samples};
  sizes.insert(sizes.end(), sample.begin(), sample.end());
  return Shape(std::span<const int64_t>(sizes));
}

std::string names_of(const std::vector<Column>& columns) {
  std::string names;
  for (const Column& column : columns) names += str(names.empty() ? "" : ", ", column.name);
  return names.empty() ? "none" : names;
}

// Samples [begin, end) of a view that has at least one sample.
ConstView rows_of(const ConstView& view, int64_t begin, int64_t end) {
  const int64_t elements = view.size() / view.shape[0];
  ConstView part = slice(view, begin * elements, end * elements);
  part.shape = with_samples(end - begin, view.shape.sizes().subspan(1));
  return part;
}

}  // namespace

Column::Column(std::string column_name, const void* values_of, DType dtype, int64_t elements, const Shape& sample)
    : name(std::move(column_name)) {
  check(sample.size() > 0 && elements % sample.size() == 0, ErrorCode::usage, [&] {
    return str("column '", name, "' holds ", elements, " values, which is no whole number of samples of shape ",
               to_string(sample));
  });
  values = {values_of, dtype, DeviceKind::cpu, with_samples(elements / sample.size(), sample.sizes())};
}

Batch::Batch(std::vector<Column> columns, const ConstView& sample_ids)
    : columns_(std::move(columns)), sample_ids_(sample_ids) {
  check(!columns_.empty(), ErrorCode::usage, "a batch wants at least one column");
  for (size_t c = 0; c < columns_.size(); ++c) {
    const std::string& name = columns_[c].name;
    const ConstView& values = columns_[c].values;
    check(values.shape.rank() >= 1, ErrorCode::usage, [&] {
      return str("column '", name, "' is a single value, expected values for every sample: its first dimension counts ",
                 "samples");
    });
    check(values.shape[0] == columns_[0].values.shape[0], ErrorCode::usage, [&] {
      return str("column '", name, "' has ", values.shape[0], " samples, expected ", columns_[0].values.shape[0],
                 " as column '", columns_[0].name, "' has");
    });
    check(std::none_of(columns_.begin(), columns_.begin() + std::ptrdiff_t(c),
                       [&](const Column& before) { return before.name == name; }),
          ErrorCode::usage, [&] { return str("two columns of a batch are called '", name, "'; name them apart"); });
  }
  samples_ = columns_[0].values.shape[0];
  check(sample_ids_.data == nullptr || (sample_ids_.shape.rank() == 1 && sample_ids_.size() == samples_),
        ErrorCode::usage, [&] {
          return str("a batch of ", samples_, " samples has sample numbers of shape ", to_string(sample_ids_.shape),
                     ", expected [", samples_, "]");
        });
}

Tensor Batch::operator[](std::string_view name) const {
  const auto found = std::ranges::find(columns_, name, &Column::name);
  check(found != columns_.end(), ErrorCode::usage,
        [&] { return str("the batch has no column '", name, "'; its columns are: ", names_of(columns_)); });
  return Tensor::borrow(found->values);
}

Batch Batch::rows(int64_t begin, int64_t end) const {
  check(begin >= 0 && begin <= end && end <= samples_, ErrorCode::internal,
        [&] { return str("samples ", begin, " to ", end, " of a batch of ", samples_); });
  Batch part = *this;
  part.samples_ = end - begin;
  if (samples_ == 0) return part;
  for (Column& column : part.columns_) column.values = rows_of(column.values, begin, end);
  if (sample_ids_.data != nullptr) part.sample_ids_ = rows_of(sample_ids_, begin, end);
  return part;
}

}  // namespace lockstep
