// SPDX-License-Identifier: Apache-2.0
// Variables in memory: what a plan says, allocated, filled and alike on all ranks. On CPU ranks parameters and slots
// are one copy per node that every rank of the node reads, and scalars are a replica in every rank; a rank with a GPU
// has all of them there. Where something lies is asked of memory(), and the optimizer's scalars are scalars().
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "collectives/communicator.h"
#include "kernels/device/memory.h"
#include "kernels/device/transfer.h"
#include "runtime/autograd/tensor.h"
#include "runtime/state/optimizer_scalars.h"
#include "runtime/state/state_memory.h"

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

  const Plan& plan() const { return memory_.plan(); }
  // Where everything lies, on the device.
  const StateMemory& memory() const { return memory_; }
  OptimizerScalars& scalars() { return *scalars_; }
  const OptimizerScalars& scalars() const { return *scalars_; }
  // The values of the model's variables by Variable::index, borrowed, on the device.
  std::span<Tensor> values() { return values_; }
  // Any variable of the plan on the host; waits for the GPU where there is one.
  HostValue host(const PlannedVariable& variable) const;

  // Queues a copy of elements [begin, end) of a variable, counted row by row, to memory of the host; it is there when
  // await_copies() has returned.
  void copy_to_host(const PlannedVariable& variable, int64_t begin, int64_t end, void* destination) const;
  void await_copies() const;

  // Collective: rank 0 gives every variable of the plan its value, in memory of the host, and all ranks get them.
  using Fill = std::function<void(const PlannedVariable&, const View& value)>;
  void fill(Communicator& communicator, const Fill& fill);

  // Writes variables into memory of the host.
  using FillMemory = std::function<void(const StateMemory&)>;
  // Collective: every rank writes what it knows. CPU ranks of a node write into the copy that they share, so that each
  // can do with a part; bookkeeping, and everything on a GPU, has to be written by every rank for itself.
  void fill_together(Communicator& communicator, const FillMemory& fill);

 private:
  void fill_all(Communicator& communicator, const FillMemory& fill_on_rank_0);
  StateSections allocate_on_host(Communicator& communicator);
  StateSections allocate_on_device();
  void broadcast_on_host(Communicator& communicator);
  void broadcast_to_device(Communicator& communicator, const FillMemory& fill_on_rank_0);
  void upload(const StateSections& image);
  StateSections image_in(std::vector<int64_t>& memory) const;
  void enter_into_ledger(int sign);
  bool on_host() const { return stream_ == nullptr; }

  Pool& pool_;
  Stream* stream_;
  bool holds_shared_copy_;  // whether this rank's ledger carries the node's copy
  StateMemory memory_;
  std::unique_ptr<SharedWindow> shared_;
  std::vector<int64_t> local_;                              // the local section on the host, in 8-byte cells
  Buffer device_parameters_, device_slots_, device_local_;  // on a GPU
  std::optional<OptimizerScalars> scalars_;
  std::vector<Tensor> values_;
};

}  // namespace lockstep
