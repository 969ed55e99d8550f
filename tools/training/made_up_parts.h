// SPDX-License-Identifier: Apache-2.0
// Parts of a batch without meaning, for measurements: bytes, collectives and speed do not depend on values.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <span>
#include <vector>

#include "runtime/data/step_input.h"

namespace lockstep {

class MadeUpParts {
 public:
  // Equal samples in the parts [first_part, last_part), with the columns that a model wants.
  MadeUpParts(const std::vector<ColumnShape>& wanted, int first_part, int last_part, int64_t samples_per_part) {
    for (int64_t i = 0; i < samples_per_part; ++i) ids_.push_back(i);
    std::vector<Column> columns;
    for (const ColumnShape& column : wanted) columns.push_back(made_up(column, samples_per_part));
    for (int part = first_part; part < last_part; ++part)
      parts_.push_back({part, Batch(columns, {ids_.data(), DType::i64, DeviceKind::cpu, Shape{samples_per_part}})});
  }
  std::span<const BatchPart> parts() const { return parts_; }

 private:
  Column made_up(const ColumnShape& column, int64_t samples) {
    const int64_t elements = samples * column.sample.size();
    if (column.dtype == DType::f32) {
      std::vector<float>& values = reals_.emplace_back();
      for (int64_t i = 0; i < elements; ++i) values.push_back(float(i * 7 % 255) / 255);
      return {column.name, values, column.sample};
    }
    check(column.dtype == DType::i32, ErrorCode::internal,
          [&] { return str("column ", column.name, " is ", to_string(column.dtype), ", expected f32 or i32"); });
    std::vector<int32_t>& values = integers_.emplace_back();
    for (int64_t i = 0; i < elements; ++i) values.push_back(int32_t(i * 7919 % std::max<int64_t>(1, column.below)));
    return {column.name, values, column.sample};
  }

  std::deque<std::vector<float>> reals_;
  std::deque<std::vector<int32_t>> integers_;
  std::vector<int64_t> ids_;
  std::vector<BatchPart> parts_;
};

}  // namespace lockstep
