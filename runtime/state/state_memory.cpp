// SPDX-License-Identifier: Apache-2.0
#include "runtime/state/state_memory.h"

#include "kernels/pointwise.h"

namespace lockstep {

StateMemory::StateMemory(const Plan& plan, const StateSections& sections) : plan_(&plan), sections_(sections) {
  for (const PlannedBucket& bucket : plan.buckets) {
    if (!dtype_ranges_.empty() && dtype_ranges_.back().dtype == bucket.dtype)
      dtype_ranges_.back().end = bucket.end;
    else
      dtype_ranges_.push_back(
          {bucket.begin, bucket.end, bucket.dtype, dtype_ranges_.empty() ? 0 : parameter_byte(bucket.begin)});
  }
}

StateMemory StateMemory::at(const StateSections& sections) const {
  StateMemory other = *this;
  other.sections_ = sections;
  return other;
}

int64_t StateMemory::parameter_bytes() const { return plan_->parameter_bytes() + plan_->frozen_bytes; }

int64_t StateMemory::slot_bytes() const { return plan_->arena_elements * size_of(DType::f32) * plan_->slots; }

View StateMemory::view(const PlannedVariable& variable) const {
  const auto address = [&]() -> char* {
    switch (variable.section) {
      case Section::trainable:
        return sections_.parameters + parameter_byte(variable.offset);
      case Section::frozen:
        return sections_.parameters + plan_->parameter_bytes() + variable.offset;
      case Section::slot:
        return sections_.slots + (plan_->arena_elements * variable.slot + variable.offset) * size_of(DType::f32);
      case Section::local:
        return sections_.local + variable.offset;
    }
    return nullptr;
  };
  return {address(), variable.dtype, sections_.device, variable.shape};
}

// Finds the last range that begins at or before the element; what lies behind all of them is empty.
const StateMemory::DtypeRange& StateMemory::dtype_range_of(int64_t element) const {
  size_t r = dtype_ranges_.size() - 1;
  while (r > 0 && dtype_ranges_[r].begin > element) --r;
  return dtype_ranges_[r];
}

int64_t StateMemory::parameter_byte(int64_t element) const {
  const DtypeRange& range = dtype_range_of(element);
  return range.byte + (element - range.begin) * size_of(range.dtype);
}

View StateMemory::parameters(int64_t begin, int64_t end) const {
  return {sections_.parameters + parameter_byte(begin), dtype_range_of(begin).dtype, sections_.device,
          Shape{end - begin}};
}

View StateMemory::slot(int32_t slot, int64_t begin, int64_t end) const {
  char* arena = sections_.slots + plan_->arena_elements * slot * size_of(DType::f32);
  return {arena + begin * size_of(DType::f32), DType::f32, sections_.device, Shape{end - begin}};
}

bool StateMemory::has_masters(int64_t element) const {
  return plan_->master_slot >= 0 && is_narrow(dtype_range_of(element).dtype);
}

View StateMemory::master_or_parameter(int64_t begin, int64_t end) const {
  return has_masters(begin) ? slot(plan_->master_slot, begin, end) : parameters(begin, end);
}

View StateMemory::working_copy(int64_t begin, int64_t end) const {
  return has_masters(begin) ? parameters(begin, end) : View{};
}

void StateMemory::round_masters_into_parameters(Stream& stream, int64_t begin, int64_t end) const {
  if (const View copy = working_copy(begin, end); copy.data != nullptr)
    launch(stream, Copy{copy, master_or_parameter(begin, end)});
}

}  // namespace lockstep
