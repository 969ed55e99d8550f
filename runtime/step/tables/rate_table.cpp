// SPDX-License-Identifier: Apache-2.0
#include "runtime/step/tables/rate_table.h"

#include <vector>

#include "kernels/device/transfer.h"

namespace lockstep {

RateTable::RateTable(const Schedule* schedule, const VariableStore& variables, Pool& pool, Stream& stream)
    : schedule_(schedule),
      variables_(variables),
      stream_(stream),
      count_(pool.device().kind == DeviceKind::cpu ? 1 : 1 << 16) {
  if (schedule) table_ = Buffer(pool, count_ * size_of(DType::f64), Purpose::scratch);
}

void RateTable::cover_next_step() {
  if (schedule_ == nullptr || left_-- > 0) return;
  first_ = variables_.scalars().iteration();
  std::vector<double> rates;
  for (int64_t i = 0; i < count_; ++i) rates.push_back(schedule_->at(first_ + i));
  copy(stream_, table_.data(), rates.data(), count_ * size_of(DType::f64));
  stream_.synchronize();  // the vector goes out of scope
  left_ = count_ - 1;
  ++generation_;
}

LearningRates RateTable::rates() const {
  if (schedule_ == nullptr) return {};
  return {static_cast<const double*>(table_.data()), first_, count_};
}

}  // namespace lockstep
