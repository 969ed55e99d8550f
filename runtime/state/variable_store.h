// SPDX-License-Identifier: Apache-2.0
// Variables in memory: what a plan says, allocated. On CPU ranks parameters and slots are one copy per node that every
// rank of the node reads, and scalars are a replica in every rank; a rank with a GPU has all of them there.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "collectives/communicator.h"
#include "kernels/device/memory.h"
#include "kernels/device/transfer.h"
#include "optimizers/optimizer_set.h"
#include "runtime/autograd/tensor.h"
#include "runtime/plan/plan.h"
#include "runtime/variables/variables.h"

namespace lockstep {

// A variable's value on the host.
class HostValue {
 public:
  // The variable itself, which must outlive this.
  explicit HostValue(const ConstView& view) : view_(view) {}
  // A copy of what a GPU holds once `stream` has done all its work so far.
  HostValue(const ConstView& view, Stream& stream);
  const ConstView& view() const { return view_; }

 private:
  std::vector<std::byte> bytes_;
  ConstView view_;
};

class VariableStore {
 public:
  // Collective. Allocates by the plan, computes first values on rank 0 and broadcasts them; `declarations` and
  // `optimizer` are those that the plan was made from. `plan` and `pool` must outlive the store, and so must `stream`,
  // which computes on the pool's GPU; null on the CPU. Throws Error(plan) for a plan that cannot be run on the pool's
  // device (check_runnable).
  VariableStore(const Plan& plan, const VariableTable& declarations, const OptimizerSet& optimizer,
                Communicator& communicator, Pool& pool, uint64_t seed, Stream* stream = nullptr);
  VariableStore(const VariableStore&) = delete;
  VariableStore& operator=(const VariableStore&) = delete;
  ~VariableStore();

  const Plan& plan() const { return plan_; }
  // The values of the model's variables by Variable::index, borrowed, on the device.
  std::span<Tensor> values() { return values_; }
  // Any variable of the plan, on the device.
  View view(const PlannedVariable& variable) const;
  // The same on the host; waits for the GPU where there is one.
  HostValue host(const PlannedVariable& variable) const;

  // Collective: rank 0 gives every variable of the plan its value, in memory of the host, and all ranks get them.
  using Fill = std::function<void(const PlannedVariable&, const View& value)>;
  void fill(Communicator& communicator, const Fill& fill);

  // Elements [begin, end) of the trainable section, which have one dtype, and of the arena of one slot; both on the
  // device.
  View parameters(int64_t begin, int64_t end) const;
  View slot(int32_t slot, int64_t begin, int64_t end) const;
  // What an optimizer updates of these elements: f32 masters where there are some, otherwise the parameters themselves;
  // then the parameters as copies of the masters, or none.
  View master_or_parameter(int64_t begin, int64_t end) const;
  View working_copy(int64_t begin, int64_t end) const;
  // Rounds the masters of [begin, end), where there are some, into the parameters. Queued on `stream`.
  void round_masters_into_parameters(Stream& stream, int64_t begin, int64_t end) const;
  // The longest ranges of the trainable section that have one dtype each.
  struct DtypeRange {
    int64_t begin, end;
    DType dtype;
    int64_t byte;  // where it begins in the section
  };
  const std::vector<DtypeRange>& dtype_ranges() const { return dtype_ranges_; }

  // The optimizer's scalars. The counter counts committed steps. Reading and writing waits for the GPU where there is
  // one.
  int64_t iteration() const;
  double learning_rate() const;
  void set_iteration(int64_t iteration);
  void set_learning_rate(double rate);
  // The same in memory of the device, for kernels. Values of Optimizer::scalars() follow one another in their order.
  int64_t* iteration_cell() const { return static_cast<int64_t*>(view(*iteration_).data); }
  double* learning_rate_cell() const { return static_cast<double*>(view(*learning_rate_).data); }
  // These values follow the learning rate, eight bytes each.
  double* scalar_cells() const { return learning_rate_cell() + 1; }
  // The scale of the loss and the count of steps since it changed, or null.
  double* loss_scale_cell() const { return loss_scale_ < 0 ? nullptr : scalar_cells() + loss_scale_; }

 private:
  // Where the sections begin.
  struct Sections {
    char* parameters = nullptr;  // trainable, then frozen
    char* slots = nullptr;       // one arena per slot
    char* local = nullptr;
  };
  void initialize(const Sections& sections, const VariableTable& declarations, const OptimizerSet& optimizer,
                  uint64_t seed);
  // Writes all variables into sections on the host; called on rank 0.
  using FillSections = std::function<void(const Sections&)>;
  void fill_all(Communicator& communicator, const FillSections& fill);
  void allocate_on_host(Communicator& communicator);
  void broadcast_on_host(Communicator& communicator);
  void allocate_on_device();
  void broadcast_to_device(Communicator& communicator, const FillSections& fill);
  View view_in(const Sections& sections, const PlannedVariable& variable, DeviceKind device) const;
  DeviceKind device() const { return pool_.device().kind; }
  PlannedMemory memory() const;
  PlannedMemory node_copy() const;
  void write(const PlannedVariable& variable, const void* value);
  const DtypeRange& dtype_range_of(int64_t element) const;
  int64_t parameter_byte(int64_t element) const;
  bool has_masters(int64_t element) const;

  const Plan& plan_;
  Pool& pool_;
  Stream* stream_;
  bool holds_shared_copy_;  // whether this rank's ledger carries the node's copy
  std::unique_ptr<SharedWindow> shared_;
  std::vector<int64_t> local_;                              // the local section on the host, in 8-byte cells
  Buffer device_parameters_, device_slots_, device_local_;  // on a GPU
  Sections sections_;
  std::vector<DtypeRange> dtype_ranges_;
  std::vector<Tensor> values_;
  const PlannedVariable* iteration_ = nullptr;
  const PlannedVariable* learning_rate_ = nullptr;
  int32_t loss_scale_ = -1;  // index into scalar_cells()
};

}  // namespace lockstep
