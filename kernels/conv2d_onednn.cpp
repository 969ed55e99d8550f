// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstring>
#include <deque>
#include <dnnl.hpp>
#include <unordered_map>
#include <vector>

#include "kernels/conv2d_cpu.h"
#include "kernels/onednn_thread.h"
#include "kernels/parallel.h"

namespace lockstep::onednn {
namespace {

using dnnl::memory;
using Tag = memory::format_tag;
using Arguments = std::unordered_map<int, memory>;

enum class Kind { forward, forward_biased, grad_input };

// What the library chose for one shape, with the layouts it wants its operands in.
struct Primitive {
  Kind kind;
  Conv2dSizes sizes;
  bool reference = false;  // the library has nothing fast
  dnnl::primitive run;
  memory::desc activation, weight, out;
};

// Kept by the stream.
struct Conv2dPrimitives {
  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  std::deque<Primitive> known;  // stable addresses
  std::vector<std::vector<float>> scratch;

  float* scratch_of(size_t index, size_t elements) {
    if (scratch.size() <= index) scratch.resize(index + 1);
    if (scratch[index].size() < elements) scratch[index].resize(elements);
    return scratch[index].data();
  }
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

Primitive make_primitive(const dnnl::engine& engine, Kind kind, const Conv2dSizes& s) {
  using namespace dnnl;
  const Tag tag = wanted_layout(kind, s);
  const memory::desc in = activation_layout(s.batch, s.channels, s.height, s.width, tag);
  const memory::desc out = activation_layout(s.batch, s.out_channels, s.out_height, s.out_width, tag);
  const memory::desc weight = weight_layout(s, Tag::any);
  const memory::dims strides{s.stride, s.stride}, padding{s.padding, s.padding};
  // At the far end the library wants what the last window reaches, not what the caller padded.
  const auto far = [&](int64_t size, int64_t window, int64_t count) {
    return (count - 1) * s.stride + window - size - s.padding;
  };
  const memory::dims far_padding{far(s.height, s.kernel_height, s.out_height),
                                 far(s.width, s.kernel_width, s.out_width)};
  const auto direct = algorithm::convolution_direct;
  const auto describe = [&](auto bias) {
    return convolution_forward::primitive_desc(
        {prop_kind::forward_training, direct, in, weight, bias, out, strides, padding, far_padding}, engine);
  };
  Primitive made{.kind = kind, .sizes = s, .run = {}, .activation = {}, .weight = {}, .out = {}};
  const memory::desc bias({s.out_channels}, memory::data_type::f32, Tag::x);
  const auto forward = describe(kind == Kind::forward_biased ? bias : memory::desc());
  const auto take = [&](const auto& chosen, const auto& primitive) {
    made.reference = std::strncmp(chosen.impl_info_str(), "ref", 3) == 0;
    made.run = primitive;
  };
  if (kind == Kind::grad_input) {
    const convolution_backward_data::primitive_desc chosen({direct, in, weight, out, strides, padding, far_padding},
                                                           engine, forward);
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

// Everything one convolution needs: the groups of its batch and the primitives for full and last group.
struct Groups {
  const Primitive* full;
  const Primitive* last;
  int64_t count;

  Groups(Conv2dPrimitives& cache, Kind kind, const Conv2dSizes& sizes)
      : count((sizes.batch + kConv2dGroup - 1) / kConv2dGroup) {
    full = &primitive_for(cache, kind, sizes, std::min(sizes.batch, kConv2dGroup));
    const int64_t rest = sizes.batch % kConv2dGroup;
    last = rest > 0 && count > 1 ? &primitive_for(cache, kind, sizes, rest) : full;
  }
  bool fast() const { return !full->reference && !last->reference && full->weight == last->weight; }
  const Primitive& at(int64_t group) const { return group + 1 == count ? *last : *full; }

  // f(worker, group) on the threads of the stream; groups in order within a worker.
  template <class F>
  void each(Stream& stream, const F& f) const {
    const int64_t workers = workers_of(stream);
    cpu::parallel_parts(stream.threads(), workers, [&](int64_t worker) {
      const OneThread one_thread;
      for (int64_t group = count * worker / workers; group < count * (worker + 1) / workers; ++group) f(worker, group);
    });
  }
  int64_t workers_of(const Stream& stream) const { return std::min<int64_t>(stream.threads(), count); }
};

float* mutable_data(const ConstView& view, int64_t offset = 0) {
  return const_cast<float*>(data<float>(view)) + offset;
}

void convert(memory from, memory to) {
  dnnl::stream stream(from.get_engine());
  dnnl::reorder(from, to).execute(stream, from, to);
}

// The weights in the library's layout.
float* converted_weight(Conv2dPrimitives& cache, const Primitive& primitive, const ConstView& weight) {
  float* to = cache.scratch_of(0, primitive.weight.get_size() / sizeof(float));
  const memory::desc ours = weight_layout(primitive.sizes, Tag::hwio);
  convert(memory(ours, cache.engine, mutable_data(weight)), memory(primitive.weight, cache.engine, to));
  return to;
}

}  // namespace

bool conv2d(Stream& stream, const Conv2d& op) {
  const Conv2dSizes s = conv2d_sizes(op);
  if (s.batch == 0) return true;
  const OneThread one_thread;
  auto& cache = stream.state<Conv2dPrimitives>();
  const Groups groups(cache, op.bias.data ? Kind::forward_biased : Kind::forward, s);
  if (!groups.fast()) return false;
  float* weight = converted_weight(cache, *groups.full, op.weight);
  const int64_t in_group = kConv2dGroup * s.height * s.width * s.channels,
                out_group = kConv2dGroup * s.pixels() * s.out_channels;
  const memory::desc bias_layout({s.out_channels}, memory::data_type::f32, Tag::x);
  groups.each(stream, [&](int64_t, int64_t group) {
    const Primitive& primitive = groups.at(group);
    const auto& engine = cache.engine;
    Arguments arguments{{DNNL_ARG_SRC, memory(primitive.activation, engine, mutable_data(op.in, group * in_group))},
                        {DNNL_ARG_WEIGHTS, memory(primitive.weight, engine, weight)},
                        {DNNL_ARG_DST, memory(primitive.out, engine, mutable_data(op.out, group * out_group))}};
    if (op.bias.data) arguments.emplace(DNNL_ARG_BIAS, memory(bias_layout, engine, mutable_data(op.bias)));
    dnnl::stream queue(engine);
    primitive.run.execute(queue, arguments);
  });
  return true;
}

bool conv2d(Stream& stream, const Conv2dGradInput& op) {
  const Conv2dSizes s = conv2d_sizes("conv2d gradient", op.d_in, op.weight, op.d_out, op.geometry);
  if (s.batch == 0) return true;
  const OneThread one_thread;
  auto& cache = stream.state<Conv2dPrimitives>();
  const Groups groups(cache, Kind::grad_input, s);
  if (!groups.fast()) return false;
  float* weight = converted_weight(cache, *groups.full, op.weight);
  for (int64_t worker = 0; worker < groups.workers_of(stream); ++worker) {
    cache.scratch_of(size_t(1 + 2 * worker), groups.full->out.get_size() / sizeof(float));
    cache.scratch_of(size_t(2 + 2 * worker), groups.full->activation.get_size() / sizeof(float));
  }
  const int64_t in_group = kConv2dGroup * s.height * s.width * s.channels,
                out_group = kConv2dGroup * s.pixels() * s.out_channels;
  groups.each(stream, [&](int64_t worker, int64_t group) {
    const Primitive& primitive = groups.at(group);
    const Conv2dSizes& part = primitive.sizes;
    const auto& engine = cache.engine;
    const memory our_out(activation_layout(part.batch, s.out_channels, s.out_height, s.out_width, Tag::nhwc), engine,
                         mutable_data(op.d_out, group * out_group));
    const memory our_in(activation_layout(part.batch, s.channels, s.height, s.width, Tag::nhwc), engine,
                        mutable_data(op.d_in, group * in_group));
    memory out = our_out, in = our_in;
    if (primitive.out != our_out.get_desc()) {
      out = memory(primitive.out, engine, cache.scratch[size_t(1 + 2 * worker)].data());
      convert(our_out, out);
    }
    if (primitive.activation != our_in.get_desc())
      in = memory(primitive.activation, engine, cache.scratch[size_t(2 + 2 * worker)].data());
    dnnl::stream queue(engine);
    primitive.run.execute(queue, {{DNNL_ARG_DIFF_DST, out},
                                  {DNNL_ARG_WEIGHTS, memory(primitive.weight, engine, weight)},
                                  {DNNL_ARG_DIFF_SRC, in}});
    if (in.get_data_handle() != our_in.get_data_handle()) convert(in, our_in);
  });
  return true;
}

}  // namespace lockstep::onednn
