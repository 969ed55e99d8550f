// SPDX-License-Identifier: Apache-2.0
#include "runtime/state/read_aggregated.h"

namespace lockstep {
namespace {

// An i64 travels as two halves, so that sums are exact beyond 2^53 up to 2^21 ranks.
constexpr int64_t kHalf = int64_t(1) << 32;

void append(const ConstView& view, bool halves, std::vector<double>& cells) {
  for (int64_t i = 0; i < view.size(); ++i) switch (view.dtype) {
      case DType::f32:
        cells.push_back(double(data<float>(view)[i]));
        break;
      case DType::bf16:
        cells.push_back(double(float(data<bfloat16>(view)[i])));
        break;
      case DType::f16:
        cells.push_back(double(float(data<float16>(view)[i])));
        break;
      case DType::f64:
        cells.push_back(data<double>(view)[i]);
        break;
      case DType::i32:
        cells.push_back(double(data<int32_t>(view)[i]));
        break;
      case DType::i64: {
        const int64_t value = data<int64_t>(view)[i];
        if (!halves) {
          cells.push_back(double(value));
          break;
        }
        const int64_t low = value & (kHalf - 1);
        cells.push_back(double((value - low) / kHalf));
        cells.push_back(double(low));
        break;
      }
    }
}

bool in_pass(const PlannedVariable& v, ReduceOp op) {
  if (op == ReduceOp::max) return v.aggregation == Aggregation::max;
  return v.aggregation == Aggregation::sum || v.aggregation == Aggregation::mean;
}

void read_pass(const VariableStore& variables, Communicator& ranks, ReduceOp op, std::vector<AggregatedValue>& read) {
  std::vector<double> cells;
  for (const PlannedVariable& v : variables.plan().variables)
    if (in_pass(v, op)) append(variables.host(v).view(), op == ReduceOp::sum, cells);
  if (cells.empty()) return;
  Stream stream = Stream::cpu();
  ranks.all_reduce({cells.data(), DType::f64, DeviceKind::cpu, Shape{int64_t(cells.size())}}, op, stream).wait(stream);
  size_t next = 0;
  for (const PlannedVariable& v : variables.plan().variables) {
    if (!in_pass(v, op)) continue;
    AggregatedValue value{v.path, v.aggregation, {}};
    for (int64_t i = 0; i < v.shape.size(); ++i) {
      double cell = cells[next++];
      if (v.dtype == DType::i64 && op == ReduceOp::sum) cell = cell * double(kHalf) + cells[next++];
      value.values.push_back(v.aggregation == Aggregation::mean ? cell / ranks.size() : cell);
    }
    read.push_back(std::move(value));
  }
}

}  // namespace

std::vector<AggregatedValue> read_aggregated(const VariableStore& variables, Communicator& ranks) {
  std::vector<AggregatedValue> read;
  read_pass(variables, ranks, ReduceOp::sum, read);
  read_pass(variables, ranks, ReduceOp::max, read);
  return read;
}

}  // namespace lockstep
