// SPDX-License-Identifier: Apache-2.0
#include "collectives/ordered_sum.h"
#include "kernels/pointwise.h"
#include "kernels/swap_dimensions.h"
#include "runtime/ops/ops.h"

namespace lockstep {
namespace {

// The collective of an op: the group, and where the op was called, for the log.
struct Over {
  const MeshGroup* group;
  std::source_location where;
};

Tensor scratch_for(Context& context, const Over& over, int64_t elements) {
  return context.empty({ordered_sum_scratch(over.group->size(), elements)});
}

void sum_ranks(Context& context, const Over& over, const ConstView& in, const View& out) {
  const Tensor scratch = scratch_for(context, over, in.size());
  ordered_all_reduce(*over.group, in, out, scratch, context.stream(), over.where);
}

// A tensor whose dimension `d` consists of one part per rank, seen as [before, ranks, part]; a part takes in the
// dimensions after d.
struct Parts {
  int64_t before = 1, ranks = 1, part = 1;
  int64_t elements() const { return before * ranks * part; }
};

Parts parts_of(std::string_view op, const Over& over, const Shape& whole, int dimension) {
  Parts parts{.ranks = over.group->size()};
  for (int d = 0; d < whole.rank(); ++d) (d < dimension ? parts.before : parts.part) *= whole[d];
  check(whole[dimension] % parts.ranks == 0, ErrorCode::plan, [&] {
    return str(op, ": dimension ", dimension, " of ", to_string(whole), " does not divide into ", parts.ranks,
               " parts, one for each rank of the axis '", over.group->name(), "'");
  });
  parts.part /= parts.ranks;
  return parts;
}

Shape resized(const Shape& shape, int dimension, int64_t size) {
  std::vector<int64_t> sizes(shape.sizes().begin(), shape.sizes().end());
  sizes[size_t(dimension)] = size;
  return Shape(std::span<const int64_t>(sizes));
}

void check_dimension(std::string_view op, const Tensor& x, int dimension) {
  check(dimension >= 0 && dimension < x.shape().rank(), ErrorCode::plan,
        [&] { return str(op, ": ", to_string(x.shape()), " has no dimension ", dimension); });
}

// part [before, part] of each rank -> whole [before, ranks, part]
void gather_parts(Context& context, const Over& over, const Parts& parts, const ConstView& part, const View& whole) {
  if (parts.before == 1) {
    over.group->all_gather(part, whole, context.stream(), over.where).wait(context.stream());
    return;
  }
  const Tensor by_rank = context.empty({parts.elements()});
  over.group->all_gather(part, by_rank, context.stream(), over.where).wait(context.stream());
  context.launch(SwapDimensions{.out = whole, .in = by_rank, .a = parts.ranks, .b = parts.before, .c = parts.part});
}

// whole [before, ranks, part] -> this rank's part [before, part] of the sum over ranks
void scatter_sum(Context& context, const Over& over, const Parts& parts, const ConstView& whole, const View& part) {
  const Tensor scratch = scratch_for(context, over, parts.elements());
  if (parts.before == 1) return ordered_reduce_scatter(*over.group, whole, part, scratch, context.stream(), over.where);
  const Tensor by_rank = context.empty({parts.elements()});
  context.launch(SwapDimensions{.out = by_rank, .in = whole, .a = parts.before, .b = parts.ranks, .c = parts.part});
  ordered_reduce_scatter(*over.group, by_rank, part, scratch, context.stream(), over.where);
}

}  // namespace

Tensor all_reduce(Call call, const Tensor& x, std::string_view axis) {
  const Over over{call.context.group(axis), call.where};
  if (over.group == nullptr) return x;
  Tensor y = call.context.empty_like(x);
  sum_ranks(call.context, over, x, y);
  call.record("all_reduce", {x.position()}, y,
              [over](Context& context, Gradients& grad) { sum_ranks(context, over, grad.out(), grad.in(0)); });
  return y;
}

Tensor all_gather(Call call, const Tensor& x, int dimension, std::string_view axis) {
  check_dimension("all_gather", x, dimension);
  const Over over{call.context.group(axis), call.where};
  if (over.group == nullptr) return x;
  Tensor y = call.context.empty(resized(x.shape(), dimension, x.shape()[dimension] * over.group->size()));
  const Parts parts = parts_of("all_gather", over, y.shape(), dimension);
  gather_parts(call.context, over, parts, x, y);
  call.record("all_gather", {x.position()}, y, [over, parts](Context& context, Gradients& grad) {
    scatter_sum(context, over, parts, grad.out(), grad.in(0));
  });
  return y;
}

Tensor reduce_scatter(Call call, const Tensor& x, int dimension, std::string_view axis) {
  check_dimension("reduce_scatter", x, dimension);
  const Over over{call.context.group(axis), call.where};
  if (over.group == nullptr) return x;
  const Parts parts = parts_of("reduce_scatter", over, x.shape(), dimension);
  Tensor y = call.context.empty(resized(x.shape(), dimension, x.shape()[dimension] / over.group->size()));
  scatter_sum(call.context, over, parts, x, y);
  call.record("reduce_scatter", {x.position()}, y, [over, parts](Context& context, Gradients& grad) {
    gather_parts(context, over, parts, grad.out(), grad.in(0));
  });
  return y;
}

Tensor copy_to_axis(Call call, const Tensor& x, std::string_view axis) {
  const Over over{call.context.group(axis), call.where};
  if (over.group == nullptr) return x;
  Tensor y = x.reshaped(x.shape());
  call.record("copy_to_axis", {x.position()}, y,
              [over](Context& context, Gradients& grad) { sum_ranks(context, over, grad.out(), grad.in(0)); });
  return y;
}

Tensor sum_over_axis(Call call, const Tensor& x, std::string_view axis) {
  const Over over{call.context.group(axis), call.where};
  if (over.group == nullptr) return x;
  Tensor y = call.context.empty_like(x);
  sum_ranks(call.context, over, x, y);
  call.record("sum_over_axis", {x.position()}, y, [](Context&, Gradients& grad) { grad.pass(0); });
  return y;
}

}  // namespace lockstep
