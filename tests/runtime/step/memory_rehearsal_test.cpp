// SPDX-License-Identifier: Apache-2.0
// The forecast of a leaf's memory against a training step that really runs: no byte may differ.
#include "runtime/step/memory_rehearsal.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "collectives/host/thread_ranks.h"
#include "kernels/pointwise.h"
#include "runtime/layers/convolution.h"
#include "runtime/layers/linear.h"
#include "runtime/models/model_list.h"
#include "runtime/ops/ops.h"
#include "runtime/plan/planner.h"
#include "tests/support/batch_parts.h"
#include "tests/support/cases.h"
#include "tools/bench/ops/op_cases.h"

namespace lockstep {

void PrintTo(const TransientMemory& memory, std::ostream* out) {
  *out << "activations " << memory.activations << ", held " << memory.held << ", scratch " << memory.scratch;
}

namespace {

constexpr int64_t kClasses = 7;

// One step of real training over leaves of these sizes, on one rank: what its pool and stream counted.
TransientMemory train_one_step(const VariableTable& variables, const Forward& forward, const Shape& sample,
                               const std::vector<int64_t>& part_samples, int threads) {
  const auto optimizer = make_optimizer("sgd");
  const Plan plan = make_plan({.variables = variables,
                               .optimizer = *optimizer,
                               .settings = {.mesh = {{"data", 1}}, .virtual_ranks = int(part_samples.size())}});
  const auto serial = make_serial_communicator();
  Stream stream = Stream::cpu(threads);
  Pool pool(stream.device());
  VariableStore store(plan, variables, *optimizer, *serial, pool, /*seed=*/1);
  TrainStep step(*serial, store, *optimizer, forward, stream, pool, /*seed=*/1);
  const int64_t held_by_tables = pool.held();

  int64_t total = 0;
  for (const int64_t n : part_samples) total += n;
  std::vector<float> inputs(size_t(total * sample.size()));
  for (size_t i = 0; i < inputs.size(); ++i) inputs[i] = float(i * 37 % 101) / 101.0f - 0.5f;
  std::vector<int32_t> labels(static_cast<size_t>(total));
  std::vector<int64_t> ids(static_cast<size_t>(total));
  for (int64_t s = 0; s < total; ++s) labels[size_t(s)] = int32_t(s % kClasses), ids[size_t(s)] = s;

  std::vector<BatchPart> leaves;
  int64_t first = 0;
  for (const int64_t n : part_samples) {
    std::vector<int64_t> sizes{n};
    sizes.insert(sizes.end(), sample.sizes().begin(), sample.sizes().end());
    const ConstView images{inputs.data() + first * sample.size(), DType::f32, DeviceKind::cpu,
                           Shape(std::span<const int64_t>(sizes))};
    const ConstView classes{labels.data() + first, DType::i32, DeviceKind::cpu, Shape{n}};
    leaves.push_back({int(leaves.size()), Batch({{"inputs", images}, {"images", images}, {"labels", classes}},
                                                {ids.data() + first, DType::i64, DeviceKind::cpu, Shape{n}})});
    first += n;
  }
  (void)step.run({0, total, leaves});
  return {pool.live(Purpose::activations).peak, pool.held() - held_by_tables, stream.scratch_bytes()};
}

// A model of random ops on images or vectors. The same number gives the same model.
class RandomModel {
 public:
  explicit RandomModel(uint64_t number) : random_(number) {
    Shape x = sample = pick({0, 1, 1}) ? images() : Shape{pick({3, 10, 64, 130})};
    if (x.rank() == 3)
      for (int64_t left = pick({1, 2, 3}); left > 0; --left) x = add_image_op(x);
    if (x.rank() == 3) {
      const int64_t flat = x.size();
      add("flatten", [flat](Context& context, const Tensor& t) { return reshape(context, t, {t.shape()[0], flat}); });
      x = Shape{flat};
    }
    for (int64_t left = pick({0, 1, 2, 3}); left > 0; --left) x = add_row_op(x);
    add_linear(x, kClasses);
    if (pick({0, 0, 1}) && variables.declarations().size() > 2) variables.freeze(variables.declarations()[0].path);
  }

  Results forward(Context& context, const Batch& batch) const {
    Tensor x = batch["inputs"];
    for (const auto& op : ops_) x = op(context, x);
    const Tensor labels = batch["labels"];
    return {softmax_cross_entropy(context, x, labels), {{"nothing", context.empty(labels.shape())}}};
  }

  VariableTable variables;
  Shape sample;
  std::string description;

 private:
  using Op = std::function<Tensor(Context&, const Tensor&)>;

  int64_t pick(std::initializer_list<int64_t> choices) { return choices.begin()[random_() % choices.size()]; }
  std::string next_name() { return str("layer_", ops_.size()); }
  void add(const std::string& what, Op op) {
    description += " " + what;
    ops_.push_back(std::move(op));
  }
  Shape images() { return {pick({5, 8, 14}), pick({5, 8, 13}), pick({1, 3, 8, 16})}; }

  Shape add_image_op(const Shape& x) {
    if (pick({0, 0, 1})) return add_any_op(x);
    if (pick({0, 0, 1}) && x[0] >= 2 && x[1] >= 2) {
      add("max_pool", [](Context& context, const Tensor& t) { return max_pool2d(context, t, 2, 2); });
      return {x[0] / 2, x[1] / 2, x[2]};
    }
    const int64_t channels = pick({1, 5, 8, 16, 64}), largest = std::min<int64_t>({x[0], x[1], 4});
    const int64_t kernel = std::min(largest, pick({1, 2, 3, 4}));
    const Conv2dGeometry geometry{.stride = int(pick({1, 1, 2})), .padding = int(pick({0, 1}))};
    const Convolution layer(variables, next_name(), kernel, x[2], channels, geometry);
    add(str("conv", kernel, "x", channels), layer);
    return {conv2d_out_size(x[0], kernel, geometry), conv2d_out_size(x[1], kernel, geometry), channels};
  }

  Shape add_row_op(const Shape& x) {
    if (pick({0, 1})) return add_any_op(x);
    const int64_t width = pick({1, 16, 33, 512});
    add_linear(x, width);
    return {width};
  }

  void add_linear(const Shape& x, int64_t width) {
    const Linear layer(variables, next_name(), x[0], width);
    add(str("linear", width), layer);
  }

  // Ops that keep the shape.
  Shape add_any_op(const Shape& x) {
    switch (pick({0, 1, 2, 3, 4, 5})) {
      case 0:
        add("relu", [](Context& context, const Tensor& t) { return relu(context, t); });
        break;
      case 1:
        add("gelu", [](Context& context, const Tensor& t) { return gelu(context, t); });
        break;
      case 2:
        add("dropout", [](Context& context, const Tensor& t) { return dropout(context, t, 0.3f); });
        break;
      case 3:
        add("gate", [](Context& context, const Tensor& t) { return multiply(context, t, sigmoid(context, t)); });
        break;
      case 4:  // the gradients of t come twice
        add("residual", [](Context& context, const Tensor& t) { return lockstep::add(context, t, tanh(context, t)); });
        break;
      default:
        add_layer_norm(x[x.rank() - 1]);
    }
    return x;
  }

  void add_layer_norm(int64_t width) {
    const std::string name = next_name();
    const Variable gain = variables.parameter(name + "/gain", {width}, Initializer::constant(1));
    const Variable shift = variables.parameter(name + "/shift", {width}, Initializer::constant(0));
    add("layer_norm", [gain, shift](Context& context, const Tensor& t) {
      return layer_norm(context, t, context.value(gain), context.value(shift));
    });
    add("add_layer_norm", [gain, shift](Context& context, const Tensor& t) {
      const Tensor other = tanh(context, t);
      const SumAndNorm both = lockstep::add_layer_norm(context, t, other, context.value(gain), context.value(shift));
      return lockstep::add(context, both.sum, both.norm);
    });
  }

  std::mt19937_64 random_;
  std::vector<Op> ops_;
};

Forward forward_of(const RandomModel& model) {
  return [&model](Context& context, const Batch& batch) { return model.forward(context, batch); };
}

TEST(MemoryRehearsal, ForecastsRandomModelsToTheByte) {
  int with_scratch = 0;
  for (uint64_t number = 0; number < 200; ++number) {
    const RandomModel model(number);
    std::mt19937_64 random(number + 1000);
    const int64_t samples = 1 + int64_t(random() % (number % 4 == 0 ? 130 : 20));
    const int threads = 1 + int(number % 2);
    const TransientMemory forecast =
        rehearse_part(model.variables, forward_of(model), labelled_shape(model.sample, samples), threads);
    EXPECT_EQ(forecast, train_one_step(model.variables, forward_of(model), model.sample, {samples}, threads))
        << "model " << number << ":" << model.description << ", " << samples << " samples of "
        << to_string(model.sample) << ", " << threads << " threads";
    with_scratch += forecast.scratch > 0;
  }
  EXPECT_GT(with_scratch, 150);
}

TEST(MemoryRehearsal, ForecastsTheShippedModelsOfImagesToTheByte) {
  for (const std::string_view name : {"mlp", "cnn"})
    for (const int64_t samples : cases<int64_t>({16, 1, 128}, 1))
      for (const int threads : {1, 2}) {
        const Model model = make_model(name, {.dropout = 0.1f});
        const Forward forward = [&](Context& context, const Batch& batch) { return model.forward(context, batch); };
        const Shape sample{28, 28, 1};
        EXPECT_EQ(rehearse_part(model.variables, forward, {model.columns, samples}, threads),
                  train_one_step(model.variables, forward, sample, {samples}, threads))
            << name << ", " << samples << " samples, " << threads << " threads";
      }
}

TEST(MemoryRehearsal, OfSeveralLeavesIsThatOfTheLargest) {
  for (const uint64_t number : {3, 8, 21, 34}) {
    const RandomModel model(number);
    const auto rehearse = [&](int64_t samples) {
      return rehearse_part(model.variables, forward_of(model), labelled_shape(model.sample, samples), 2);
    };
    const TransientMemory two = rehearse(2), nine = rehearse(9);
    const TransientMemory real = train_one_step(model.variables, forward_of(model), model.sample, {2, 9, 0, 2}, 2);
    EXPECT_EQ(real.activations, std::max(two.activations, nine.activations)) << model.description;
    EXPECT_EQ(real.scratch, std::max(two.scratch, nine.scratch)) << model.description;
    EXPECT_GE(real.held, std::max(two.held, nine.held)) << "blocks of both sizes stay in the pool";
  }
}

TEST(MemoryRehearsal, OfALeafWithoutSamplesIsZero) {
  const RandomModel model(1);
  EXPECT_EQ(rehearse_part(model.variables, forward_of(model), labelled_shape(model.sample, 0), 1), TransientMemory{});
}

TEST(MemoryRehearsal, CountsHundredsOfGigabytesThatItDoesNotTake) {
  VariableTable variables;
  const int64_t width = 100'000, samples = 200'000, wide = samples * width * 4;
  const Linear first(variables, "first", width, width), last(variables, "last", width, kClasses);
  const Forward forward = [&](Context& context, const Batch& batch) {
    const Tensor x = last(context, relu(context, first(context, batch["inputs"])));
    return Results{softmax_cross_entropy(context, x, batch["labels"])};
  };
  const TransientMemory forecast = rehearse_part(variables, forward, labelled_shape({width}, samples), 2);
  // Two activations and a gradient of their size are alive at once.
  EXPECT_GT(forecast.activations, 3 * wide);
  EXPECT_LT(forecast.activations, 3 * wide + wide / 100);
}

// Forward and backward of one op; the pools and streams that it worked with.
struct OpRun {
  Pool values, transient;
  Stream stream;

  static OpRun real(int threads) { return {Pool({}), Pool({}), Stream::cpu(threads)}; }
  static OpRun rehearsed(int threads) { return {Pool::counted({}), Pool::counted({}), Stream::rehearsal(threads)}; }

  void run(const OpCase& op, std::vector<Tensor> inputs, std::vector<int64_t>& ids) {
    Tape tape;
    Context context(stream, transient, &tape);
    context.set_activations(op.activations);
    const Tensor cells = set_sample_ids(context, ids, op.inputs[0].shape[0]);
    std::vector<Tensor> gradients;
    for (size_t i = 0; i < inputs.size(); ++i) {
      gradients.emplace_back(values, op.inputs[i].gradient, inputs[i].shape());
      if (op.inputs[i].differentiable) tape.watch(inputs[i], int32_t(i), gradients[i]);
    }
    const Tensor output = op.run(context, inputs);
    const Tensor seed = context.empty_like(output);
    launch(stream, Fill{seed, 1.0f});
    tape.backward(context, output, seed, nullptr);
  }
  TransientMemory memory() const {
    return {transient.live(Purpose::activations).peak, transient.held(), stream.scratch_bytes()};
  }
};

TEST(MemoryRehearsal, KnowsEveryOpOfTheVocabulary) {
  for (const OpCase& op : op_cases())
    for (const int threads : {1, 2}) {
      std::vector<int64_t> ids;
      OpRun real = OpRun::real(threads), rehearsed = OpRun::rehearsed(threads);
      real.run(op, random_inputs(real.stream, real.values, op.inputs, 1), ids);
      std::vector<Tensor> inputs;
      for (const OpInput& input : op.inputs) inputs.emplace_back(rehearsed.values, input.dtype, input.shape);
      rehearsed.run(op, inputs, ids);
      EXPECT_EQ(rehearsed.memory(), real.memory()) << op.op << " " << op.note;
    }
}

TEST(MemoryRehearsal, EndsTheProgramWhenAModelReadsANumber) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const RandomModel model(1);
  const Forward reads = [&](Context& context, const Batch& batch) {
    Results results = model.forward(context, batch);
    if (*data<float>(ConstView(results.loss)) > 1) results.loss = relu(context, results.loss);
    return results;
  };
  EXPECT_DEATH(rehearse_part(model.variables, reads, labelled_shape(model.sample, 3), 1), "");
}

TEST(MemoryRehearsal, NamesTheVariableThatHasNoShapeYet) {
  VariableTable variables;
  variables.declare(
      {"open", {}, DType::f32, Role::parameter, Initializer::constant(0), {}, {}, /*shape_pending=*/true});
  const Forward forward = [](Context&, const Batch&) { return Results{}; };
  EXPECT_THAT([&] { rehearse_part(variables, forward, labelled_shape({4}, 2), 1); },
              testing::ThrowsMessage<Error>(testing::HasSubstr("variable open has no shape yet")));
}

TEST(MemoryRehearsal, PassesOnWhatTheModelComplainsAbout) {
  VariableTable variables;
  const Linear layer(variables, "layer", 3, kClasses);
  const Forward forward = [&](Context& context, const Batch& batch) {
    const Tensor loss = softmax_cross_entropy(context, layer(context, batch["inputs"]), batch["labels"]);
    return Results{loss};
  };
  EXPECT_THROW(rehearse_part(variables, forward, labelled_shape({4}, 2), 1), Error) << "inputs that do not fit";
  variables.freeze("layer/weight");
  variables.freeze("layer/bias");
  EXPECT_THROW(rehearse_part(variables, forward, labelled_shape({3}, 2), 1), Error) << "nothing to differentiate";
}

}  // namespace
}  // namespace lockstep
