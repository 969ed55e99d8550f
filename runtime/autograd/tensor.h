// SPDX-License-Identifier: Apache-2.0
// A tensor is local data, shared by its handles, and the place on the tape where it was recorded. It knows no layout:
// it is variables that are distributed.
#pragma once

#include <cstdint>
#include <utility>

#include "kernels/device/memory.h"
#include "kernels/device/view.h"

namespace lockstep {

// Where a tensor stands on a tape. `generation` tells the passes of one tape apart, so that a tensor kept from an
// earlier pass counts as a constant.
struct TapePosition {
  int32_t slot = -1;
  uint32_t generation = 0;
};

// Handles share one block; the count is not atomic, so a tensor belongs to the thread of its rank.
class Tensor {
 public:
  Tensor() = default;
  // The contents are undefined.
  Tensor(Pool& pool, DType dtype, const Shape& shape, Purpose purpose = Purpose::activations)
      : block_(pool.take(shape.size() * size_of(dtype), purpose)),
        view_{block_->data, dtype, pool.device().kind, shape} {}
  // Borrows memory owned elsewhere (a variable, a batch), which must outlive every handle.
  static Tensor borrow(const View& view) {
    Tensor tensor;
    tensor.view_ = view;
    return tensor;
  }
  // Borrows data that nobody writes through the tensor, such as a batch.
  static Tensor borrow(const ConstView& view) {
    return borrow(View{const_cast<void*>(view.data), view.dtype, view.device, view.shape});
  }

  Tensor(const Tensor& other) : block_(other.block_), view_(other.view_), position_(other.position_) {
    if (block_) ++block_->references;
  }
  Tensor(Tensor&& other) noexcept
      : block_(std::exchange(other.block_, nullptr)), view_(other.view_), position_(other.position_) {}
  Tensor& operator=(const Tensor& other) { return *this = Tensor(other); }
  Tensor& operator=(Tensor&& other) noexcept {
    std::swap(block_, other.block_);
    view_ = other.view_;
    position_ = other.position_;
    return *this;
  }
  ~Tensor() { release(); }

  // Lets go of the memory; shape and dtype stay.
  void release() {
    if (block_ && --block_->references == 0) block_->pool->give_back(block_);
    block_ = nullptr;
    view_.data = nullptr;
  }
  // Turns an empty tensor into one of this shape over memory owned elsewhere, or over none yet.
  void borrow_as(const View& view, const Shape& shape) {
    release();
    view_.shape = shape;
    view_.dtype = view.dtype;
    view_.device = view.device;
    view_.data = view.data;
  }
  // Shares the memory of `other`, which has as many elements, under its own shape.
  void share(const Tensor& other) {
    if (other.block_) ++other.block_->references;
    release();
    block_ = other.block_;
    view_.data = other.view_.data;
  }

  explicit operator bool() const { return view_.data != nullptr; }
  operator View() const { return view_; }
  operator ConstView() const { return view_; }
  const Shape& shape() const { return view_.shape; }
  DType dtype() const { return view_.dtype; }
  int64_t size() const { return view_.size(); }
  // True when this handle alone owns the memory, so that it may be overwritten.
  bool sole_owner() const { return block_ && block_->references == 1; }

  // The same elements under another shape of equal size; off the tape.
  Tensor reshaped(const Shape& shape) const {
    check(shape.size() == size(), ErrorCode::plan, [&] {
      return str("reshape: expected a shape of ", size(), " elements for ", to_string(view_.shape), ", got ",
                 to_string(shape));
    });
    Tensor result = *this;
    result.view_.shape = shape;
    result.position_ = {};
    return result;
  }

  TapePosition position() const { return position_; }
  void set_position(TapePosition position) { position_ = position; }

 private:
  Block* block_ = nullptr;
  View view_;
  TapePosition position_;
};

}  // namespace lockstep
