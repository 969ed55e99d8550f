// SPDX-License-Identifier: Apache-2.0
// StateMemory says where each variable of a plan and each element of its arenas lies. A plan's state is three sections
// of memory: parameters (trainable, then frozen), one f32 arena per slot, and the bookkeeping of one rank. The
// addresses are a function of the plan and of where the sections begin, so the state of a rank, the image of it that
// rank 0 broadcasts and a file all have one layout.
#pragma once

#include <cstdint>
#include <vector>

#include "kernels/device/device.h"
#include "kernels/device/view.h"
#include "runtime/plan/plan.h"

namespace lockstep {

// Where the sections begin, on one device. The memory belongs to whoever allocated it.
struct StateSections {
  char* parameters = nullptr;
  char* slots = nullptr;
  char* local = nullptr;
  DeviceKind device = DeviceKind::cpu;
};

class StateMemory {
 public:
  // `plan` must outlive this. The sections have the sizes of parameter_bytes(), slot_bytes() and Plan::local_bytes.
  explicit StateMemory(const Plan& plan, const StateSections& sections = {});
  // The same addresses in other sections.
  StateMemory at(const StateSections& sections) const;

  const Plan& plan() const { return *plan_; }
  const StateSections& sections() const { return sections_; }
  int64_t parameter_bytes() const;  // of the trainable and the frozen parameters
  int64_t slot_bytes() const;       // of the arenas of all slots

  View view(const PlannedVariable& variable) const;

  // Elements [begin, end) of the trainable section, which have one dtype, and of the arena of one slot.
  View parameters(int64_t begin, int64_t end) const;
  View slot(int32_t slot, int64_t begin, int64_t end) const;
  // What an optimizer updates of these elements: f32 masters where there are some, otherwise the parameters themselves;
  // then the parameters as copies of the masters, or none.
  View master_or_parameter(int64_t begin, int64_t end) const;
  View working_copy(int64_t begin, int64_t end) const;
  // Rounds the masters of [begin, end), where there are some, into the parameters. Queued on `stream`.
  void round_masters_into_parameters(Stream& stream, int64_t begin, int64_t end) const;

 private:
  // The longest ranges of the trainable section that have one dtype each.
  struct DtypeRange {
    int64_t begin, end;
    DType dtype;
    int64_t byte;  // where it begins in the section
  };
  const DtypeRange& dtype_range_of(int64_t element) const;
  int64_t parameter_byte(int64_t element) const;
  bool has_masters(int64_t element) const;

  const Plan* plan_;
  StateSections sections_;
  std::vector<DtypeRange> dtype_ranges_;
};

}  // namespace lockstep
