// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>
#include <deque>
#include <dnnl.hpp>
#include <unordered_map>

#include "kernels/conv2d_cpu.h"
#include "kernels/onednn_thread.h"
#include "kernels/parallel.h"

namespace lockstep::onednn {
namespace {

using dnnl::memory;
using Tag = memory::format_tag;
using Arguments = std::unordered_map<int, memory>;

enum class Kind { forward, forward_biased, grad_input };

// What the library chose for one shape, with the layouts in which it wants its operands.
struct Primitive {
  Kind kind;
  Conv2dSizes sizes;
  bool reference = false;  // the library has nothing fast
  dnnl::primitive run;
  memory::desc activation, weight, out, scratchpad;
};

// The stream keeps these.
struct Conv2dPrimitives {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  std::deque<Primitive> known;  // stable addresses
};

memory::desc activation_layout(int64_t batch, int64_t channels, int64_t height, int64_t width, Tag tag) {
  return {{batch, channels, height, width}, memory::data_type::f32, tag};
}
memory::desc weight_layout(const Conv2dSizes& s, Tag tag) {
  return {{s.out_channels, s.channels, s.kernel_height, s.kernel_width}, memory::data_type::f32, tag};
}

// The gradient of the input is faster in the library's blocked layouts, conversions included; the forward pass is not.
Tag wanted_layout(Kind kind, const Conv2dSizes& s) {
  const bool blocked = kind == Kind::grad_input && s.channels % 8 == 0 && s.out_channels % 8 == 0;
  return blocked ? Tag::any : Tag::nhwc;
}

// Asks the library for a primitive. Version 2 takes what describes it as one object, version 3 one by one.
template <class Operation, class... Facts>
auto describe(const dnnl::engine& engine, const dnnl::primitive_attr& attributes, const Facts&... facts) {
  using Description = typename Operation::primitive_desc;
  if constexpr (requires { typename Operation::desc; })
    return Description(typename Operation::desc(facts...), attributes, engine);
  else
    return Description(engine, facts..., attributes);
}

// The same for a gradient, for which the library wants to know its forward pass.
template <class Operation, class Forward, class... Facts>
auto describe_backward(const dnnl::engine& engine, const dnnl::primitive_attr& attributes, const Forward& forward,
                       const Facts&... facts) {
  using Description = typename Operation::primitive_desc;
  if constexpr (requires { typename Operation::desc; })
    return Description(typename Operation::desc(facts...), attributes, engine, forward);
  else
    return Description(engine, facts..., forward, attributes);
}

Primitive make_primitive(const dnnl::engine& engine, Kind kind, const Conv2dSizes& s) {
  using namespace dnnl;
  const Tag tag = wanted_layout(kind, s);
  const memory::desc in = activation_layout(s.batch, s.channels, s.height, s.width, tag);
  const memory::desc out = activation_layout(s.batch, s.out_channels, s.out_height, s.out_width, tag);
  const memory::desc weight = weight_layout(s, Tag::any);
  const memory::dims strides{s.stride, s.stride}, padding{s.padding, s.padding};
  // At the far end the library wants the padding that the last window reaches, not the caller's.
  const auto far = [&](int64_t size, int64_t window, int64_t count) {
    return (count - 1) * s.stride + window - size - s.padding;
  };
  const memory::dims far_padding{far(s.height, s.kernel_height, s.out_height),
                                 far(s.width, s.kernel_width, s.out_width)};
  const auto direct = algorithm::convolution_direct;
  primitive_attr attributes;  // the library's scratchpad is part of our scratch, so that it is counted
  attributes.set_scratchpad_mode(scratchpad_mode::user);
  Primitive made{.kind = kind, .sizes = s, .run = {}, .activation = {}, .weight = {}, .out = {}, .scratchpad = {}};
  const memory::desc bias({s.out_channels}, memory::data_type::f32, Tag::x);
  const auto forward = describe<convolution_forward>(engine, attributes, prop_kind::forward_training, direct, in,
                                                     weight, kind == Kind::forward_biased ? bias : memory::desc(), out,
                                                     strides, padding, far_padding);
  const auto take = [&](const auto& chosen, const auto& primitive) {
    made.reference = std::strncmp(chosen.impl_info_str(), "ref", 3) == 0;
    made.run = primitive;
    made.scratchpad = chosen.scratchpad_desc();
  };
  if (kind == Kind::grad_input) {
    const auto chosen = describe_backward<convolution_backward_data>(engine, attributes, forward, direct, in, weight,
                                                                     out, strides, padding, far_padding);
    take(chosen, convolution_backward_data(chosen));
    made.activation = chosen.diff_src_desc(), made.weight = chosen.weights_desc(), made.out = chosen.diff_dst_desc();
  } else {
    take(forward, convolution_forward(forward));
    made.activation = forward.src_desc(), made.weight = forward.weights_desc(), made.out = forward.dst_desc();
  }
  return made;
}

const Primitive& primitive_for(Conv2dPrimitives& cache, Kind kind, Conv2dSizes sizes, int64_t batch) {
  sizes.batch = batch;
  for (const Primitive& primitive : cache.known)
    if (primitive.kind == kind && primitive.sizes == sizes) return primitive;
  cache.known.push_back(make_primitive(cache.engine, kind, sizes));
  return cache.known.back();
}

memory::desc plain_activation(const Conv2dSizes& s) {
  return activation_layout(s.batch, s.channels, s.height, s.width, Tag::nhwc);
}
memory::desc plain_out(const Conv2dSizes& s) {
  return activation_layout(s.batch, s.out_channels, s.out_height, s.out_width, Tag::nhwc);
}

// Bytes of a copy in the library's layout; 0 where that layout is ours.
int64_t copy_bytes(const memory::desc& library, const memory::desc& ours) {
  return library == ours ? 0 : scratch_piece(int64_t(library.get_size()));
}

// Everything that one convolution needs: the groups of its batch, the primitives for the full and the last group, and
// the places in scratch. Scratch holds the weights in the library's layout, then each worker's output, activation and
// scratchpad. Conversions of layout need no scratchpad.
struct Groups {
  const Primitive* full;
  const Primitive* last;
  int64_t count, workers;
  int64_t weight_bytes = 0, out_bytes = 0, activation_bytes = 0, scratchpad_bytes = 0;

  Groups(Stream& stream, Kind kind, const Conv2dSizes& sizes)
      : count((sizes.batch + kConv2dGroup - 1) / kConv2dGroup), workers(std::min<int64_t>(stream.threads(), count)) {
    auto& cache = stream.state<Conv2dPrimitives>();
    full = &primitive_for(cache, kind, sizes, std::min(sizes.batch, kConv2dGroup));
    const int64_t rest = sizes.batch % kConv2dGroup;
    last = rest > 0 && count > 1 ? &primitive_for(cache, kind, sizes, rest) : full;
    weight_bytes = scratch_piece(int64_t(full->weight.get_size()));
    for (const Primitive* primitive : {full, last}) {
      out_bytes = std::max(out_bytes, copy_bytes(primitive->out, plain_out(primitive->sizes)));
      activation_bytes =
          std::max(activation_bytes, copy_bytes(primitive->activation, plain_activation(primitive->sizes)));
      scratchpad_bytes = std::max(scratchpad_bytes, scratch_piece(int64_t(primitive->scratchpad.get_size())));
    }
  }
  bool fast() const { return !full->reference && !last->reference && full->weight == last->weight; }
  const Primitive& at(int64_t group) const { return group + 1 == count ? *last : *full; }
  int64_t scratch() const { return weight_bytes + workers * (out_bytes + activation_bytes + scratchpad_bytes); }

  // Calls f(group, scratch of the worker) on the threads of the stream; a worker takes its groups in order.
  template <class F>
  void each(Stream& stream, std::byte* scratch, const F& f) const {
    cpu::parallel_parts(stream.threads(), workers, [&](int64_t worker) {
      const OneThread one_thread;
      std::byte* own = scratch + weight_bytes + worker * (out_bytes + activation_bytes + scratchpad_bytes);
      for (int64_t group = count * worker / workers; group < count * (worker + 1) / workers; ++group) f(group, own);
    });
  }
};

float* mutable_data(const ConstView& view, int64_t offset = 0) {
  return const_cast<float*>(data<float>(view)) + offset;
}

void convert(memory from, memory to) {
  dnnl::stream stream(from.get_engine());
  dnnl::reorder(from, to).execute(stream, from, to);
}

// Converts the weights to the library's layout, at `to`.
memory converted_weight(const dnnl::engine& engine, const Primitive& primitive, const ConstView& weight,
                        std::byte* to) {
  const memory converted(primitive.weight, engine, to);
  convert(memory(weight_layout(primitive.sizes, Tag::hwio), engine, mutable_data(weight)), converted);
  return converted;
}

template <class Op>
std::optional<int64_t> scratch_of(Stream& stream, Kind kind, const Op& op) {
  const Conv2dSizes sizes = conv2d_sizes(op);
  if (sizes.batch == 0) return 0;
  const OneThread one_thread;
  const Groups groups(stream, kind, sizes);
  if (!groups.fast()) return std::nullopt;
  return groups.scratch();
}

Kind kind_of(const Conv2d& op) { return op.bias.data ? Kind::forward_biased : Kind::forward; }

}  // namespace

std::optional<int64_t> conv2d_scratch(Stream& stream, const Conv2d& op) { return scratch_of(stream, kind_of(op), op); }
std::optional<int64_t> conv2d_scratch(Stream& stream, const Conv2dGradInput& op) {
  return scratch_of(stream, Kind::grad_input, op);
}

bool conv2d(Stream& stream, const Conv2d& op, std::byte* scratch) {
  const Conv2dSizes s = conv2d_sizes(op);
  if (s.batch == 0) return true;
  const OneThread one_thread;
  const Groups groups(stream, kind_of(op), s);
  if (!groups.fast()) return false;
  const auto& engine = stream.state<Conv2dPrimitives>().engine;
  const memory weight = converted_weight(engine, *groups.full, op.weight, scratch);
  const int64_t in_group = kConv2dGroup * s.height * s.width * s.channels,
                out_group = kConv2dGroup * s.pixels() * s.out_channels;
  const memory::desc bias_layout({s.out_channels}, memory::data_type::f32, Tag::x);
  groups.each(stream, scratch, [&](int64_t group, std::byte* own) {
    const Primitive& primitive = groups.at(group);
    Arguments arguments{{DNNL_ARG_SRC, memory(primitive.activation, engine, mutable_data(op.in, group * in_group))},
                        {DNNL_ARG_WEIGHTS, weight},
                        {DNNL_ARG_DST, memory(primitive.out, engine, mutable_data(op.out, group * out_group))},
                        {DNNL_ARG_SCRATCHPAD, memory(primitive.scratchpad, engine, own)}};
    if (op.bias.data) arguments.emplace(DNNL_ARG_BIAS, memory(bias_layout, engine, mutable_data(op.bias)));
    dnnl::stream queue(engine);
    primitive.run.execute(queue, arguments);
  });
  return true;
}

bool conv2d(Stream& stream, const Conv2dGradInput& op, std::byte* scratch) {
  const Conv2dSizes s = conv2d_sizes(op);
  if (s.batch == 0) return true;
  const OneThread one_thread;
  const Groups groups(stream, Kind::grad_input, s);
  if (!groups.fast()) return false;
  const auto& engine = stream.state<Conv2dPrimitives>().engine;
  const memory weight = converted_weight(engine, *groups.full, op.weight, scratch);
  const int64_t in_group = kConv2dGroup * s.height * s.width * s.channels,
                out_group = kConv2dGroup * s.pixels() * s.out_channels;
  groups.each(stream, scratch, [&](int64_t group, std::byte* own) {
    const Primitive& primitive = groups.at(group);
    const memory our_out(plain_out(primitive.sizes), engine, mutable_data(op.d_out, group * out_group));
    const memory our_in(plain_activation(primitive.sizes), engine, mutable_data(op.d_in, group * in_group));
    memory out = our_out, in = our_in;
    if (primitive.out != our_out.get_desc()) {
      out = memory(primitive.out, engine, own);
      convert(our_out, out);
    }
    if (primitive.activation != our_in.get_desc()) in = memory(primitive.activation, engine, own + groups.out_bytes);
    const memory scratchpad(primitive.scratchpad, engine, own + groups.out_bytes + groups.activation_bytes);
    dnnl::stream queue(engine);
    primitive.run.execute(queue, {{DNNL_ARG_DIFF_DST, out},
                                  {DNNL_ARG_WEIGHTS, weight},
                                  {DNNL_ARG_DIFF_SRC, in},
                                  {DNNL_ARG_SCRATCHPAD, scratchpad}});
    if (in.get_data_handle() != our_in.get_data_handle()) convert(in, our_in);
  });
  return true;
}

}  // namespace lockstep::onednn
