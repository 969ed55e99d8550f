// SPDX-License-Identifier: Apache-2.0
// Optimizers that work tensor by tensor, against their formulas in double; and what a step does besides its rule.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>

#include "kernels/device/memory.h"
#include "kernels/device/transfer.h"
#include "optimizers/rules/adafactor.h"
#include "optimizers/rules/muon.h"
#include "tests/optimizers/flat_variables.h"
#include "tests/support/cases.h"
#include "tests/support/devices.h"
#include "tests/support/optimizer_vectors.h"

namespace lockstep {
namespace {

using Numbers = std::vector<double>;

double norm(const Numbers& x) {
  double sum = 0;
  for (const double v : x) sum += v * v;
  return std::sqrt(sum);
}
double rms(const Numbers& x) { return norm(x) / std::sqrt(double(x.size())); }

// A tensor and its slots in double.
struct Reference {
  Shape shape;
  Numbers w, m, v, r, c;  // momentum, second moment, or its factors
  explicit Reference(const Shape& of, const std::vector<float>& initial)
      : shape(of), w(initial.begin(), initial.end()), m(w.size()), v(w.size()), r(w.size()), c(w.size()) {}
};

void lamb_step(Reference& t, int64_t step, double rate, const Numbers& g) {
  Numbers u(g.size());
  for (size_t i = 0; i < g.size(); ++i) {
    t.m[i] += (g[i] - t.m[i]) * 0.1;
    t.v[i] += (g[i] * g[i] - t.v[i]) * 0.001;
    u[i] = t.m[i] / (1 - std::pow(0.9, step)) / (std::sqrt(t.v[i] / (1 - std::pow(0.999, step))) + 1e-7);
  }
  const double ratio = norm(t.w) > 0 && norm(u) > 0 ? norm(t.w) / norm(u) : 1;
  for (size_t i = 0; i < g.size(); ++i) t.w[i] -= rate * ratio * u[i];
}

// Keras factors every tensor of two dimensions or more; where one of them is 1 that is the plain formula.
void adafactor_step(Reference& t, int64_t step, double rate, const Numbers& g) {
  const double fresh = std::pow(double(step), -0.8);
  const auto n = int64_t(g.size());
  Numbers u(g.size());
  const auto square = [&](int64_t i) { return g[size_t(i)] * g[size_t(i)] + 1e-30; };
  if (t.shape.rank() < 2) {
    for (int64_t i = 0; i < n; ++i) {
      double& v = t.v[size_t(i)];
      v = (1 - fresh) * v + fresh * square(i);
      u[size_t(i)] = g[size_t(i)] / std::sqrt(v);
    }
  } else {
    const int64_t rows = t.shape[t.shape.rank() - 2], columns = t.shape[t.shape.rank() - 1];
    for (int64_t first = 0; first < n; first += rows * columns) {
      double *r = &t.r[size_t(first)], *c = &t.c[size_t(first)], mean = 0;
      for (int64_t i = 0; i < rows; ++i) {
        double sum = 0;
        for (int64_t j = 0; j < columns; ++j) sum += square(first + i * columns + j);
        r[i] = (1 - fresh) * r[i] + fresh * sum / double(columns);
        mean += r[i] / double(rows);
      }
      for (int64_t j = 0; j < columns; ++j) {
        double sum = 0;
        for (int64_t i = 0; i < rows; ++i) sum += square(first + i * columns + j);
        c[j] = (1 - fresh) * c[j] + fresh * sum / double(rows);
      }
      for (int64_t i = 0; i < rows * columns; ++i)
        u[size_t(first + i)] = g[size_t(first + i)] / std::sqrt(r[i / columns] / mean * c[i % columns]);
    }
  }
  const double alpha = std::max(1e-3, rms(t.w)) * std::min(rate, 1 / std::sqrt(double(step)));
  for (size_t i = 0; i < g.size(); ++i) t.w[i] -= alpha * u[i] / std::max(1.0, rms(u));
}

Numbers product(const Numbers& a, const Numbers& b, int64_t rows, int64_t inner, int64_t columns) {
  Numbers out(size_t(rows * columns));
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t k = 0; k < inner; ++k)
      for (int64_t j = 0; j < columns; ++j)
        out[size_t(i * columns + j)] += a[size_t(i * inner + k)] * b[size_t(k * columns + j)];
  return out;
}
Numbers transposed(const Numbers& x, int64_t rows, int64_t columns) {
  Numbers out(x.size());
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j) out[size_t(j * rows + i)] = x[size_t(i * columns + j)];
  return out;
}

// As Keras writes it: a tall matrix is transposed and transposed back.
Numbers newton_schulz(Numbers x, int64_t rows, int64_t columns) {
  const bool tall = rows > columns;
  if (tall) x = transposed(x, rows, columns);
  const int64_t p = std::min(rows, columns), q = std::max(rows, columns);
  const double length = norm(x) + 1e-7;
  for (double& value : x) value /= length;
  for (int step = 0; step < 5; ++step) {
    const Numbers a = product(x, transposed(x, p, q), p, q, p), aa = product(a, a, p, p, p);
    Numbers b(a.size());
    for (size_t i = 0; i < a.size(); ++i) b[i] = -4.775 * a[i] + 2.0315 * aa[i];
    const Numbers bx = product(b, x, p, p, q);
    for (size_t i = 0; i < x.size(); ++i) x[i] = 3.4445 * x[i] + bx[i];
  }
  return tall ? transposed(x, p, q) : x;
}

void muon_step(Reference& t, int64_t, double rate, const Numbers& g) {
  Numbers x(g.size());
  for (size_t i = 0; i < g.size(); ++i) {
    t.m[i] = 0.95 * t.m[i] + g[i];
    x[i] = g[i] + 0.95 * t.m[i];
  }
  x = newton_schulz(x, t.shape[0], t.shape[1]);
  const double length = 0.2 * std::sqrt(double(std::max(t.shape[0], t.shape[1])));
  for (size_t i = 0; i < g.size(); ++i) t.w[i] -= rate * length * x[i];
}

struct Rule {
  std::string name;
  std::function<void(Reference&, int64_t, double, const Numbers&)> step;
  std::vector<Shape> shapes;
  double tolerance;
};

std::vector<Rule> rules() {
  const std::vector<Shape> any = {{5}, {}, {3, 7}, {7, 3}, {2, 3, 5}, {1, 9}, {9, 1}, {4100, 3}, {9000}, {2, 2, 1}};
  // Newton-Schulz steps pass errors of f32 on, and make them larger where singular values are small.
  return {{"lamb", lamb_step, any, 2e-6},
          {"adafactor", adafactor_step, any, 5e-6},
          {"muon", muon_step, {{3, 7}, {7, 3}, {1, 9}, {40, 40}, {130, 70}}, 2e-3}};
}

std::vector<float> random_values(int64_t n, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<size_t>(n));
  for (float& value : values) value = normal(random);
  return values;
}

constexpr int kSteps = kUnderSanitizer ? 3 : 20;

TEST(TensorRules, FollowTheirFormulas) {
  for (const Rule& rule : rules())
    for (const Shape& shape : rule.shapes) {
      const auto optimizer = make_optimizer(rule.name, {{"learning_rate", 0.02}, {"weight_decay", 0.1}});
      const std::vector<float> initial = random_values(shape.size(), 1);
      FlatVariables flat(*optimizer, initial, shape);
      Reference reference(shape, initial);
      for (int step = 1; step <= kSteps; ++step) {
        flat.grad = random_values(shape.size(), uint32_t(10 + step));
        Numbers g(flat.grad.begin(), flat.grad.end());
        for (double& x : g) x = std::clamp(x, -1.5, 1.5) * 0.5;
        flat.update(*optimizer, step, {.grad_scale = 0.5f, .clip_value = 1.5f});
        for (double& w : reference.w) w -= 0.02 * 0.1 * w;
        rule.step(reference, step, 0.02, g);
        for (const float left : flat.grad) ASSERT_EQ(left, 0) << "gradients are cleared";
      }
      double error = 0;
      for (size_t i = 0; i < initial.size(); ++i)
        error = std::max(error, std::abs(double(flat.param[i]) - reference.w[i]));
      EXPECT_LT(error, rule.tolerance) << rule.name << " " << to_string(shape);
    }
}

TEST(TensorRules, SkipWithoutATrace) {
  for (const Rule& rule : rules()) {
    const Shape shape{40, 40};
    const auto optimizer = make_optimizer(rule.name, {{"weight_decay", 0.1}});
    FlatVariables flat(*optimizer, random_values(shape.size(), 1), shape);
    flat.grad = random_values(shape.size(), 2);
    flat.update(*optimizer, 1);
    const FlatVariables before = flat;
    flat.grad.assign(flat.grad.size(), std::nanf(""));
    flat.update(*optimizer, 2, {.skip = true});
    EXPECT_EQ(flat.param, before.param) << rule.name;
    EXPECT_EQ(flat.slots, before.slots) << rule.name;
    EXPECT_THAT(flat.grad, testing::Each(0)) << rule.name;
  }
}

TEST(TensorRules, HaveTheSameBitsForAnyNumberOfThreads) {
  for (const Rule& rule : rules()) {
    const Shape shape{700, 300};
    const auto optimizer = make_optimizer(rule.name);
    std::vector<FlatVariables> runs;
    for (const int threads : {1, 2, 5}) {
      Stream stream = Stream::cpu(threads);
      FlatVariables& flat = runs.emplace_back(*optimizer, random_values(shape.size(), 1), shape);
      for (int step = 1; step <= 2; ++step) {
        flat.grad = random_values(shape.size(), uint32_t(step));
        flat.prepare(*optimizer, stream, step, 0.01);
        flat.update_tensor(*optimizer, stream);
      }
      EXPECT_EQ(flat.param, runs[0].param) << rule.name << " " << threads;
      EXPECT_EQ(flat.slots, runs[0].slots) << rule.name << " " << threads;
    }
  }
}

TEST(TensorRules, AddCoupledWeightDecayToTheGradient) {
  for (const Rule& rule : rules()) {
    const Shape shape{6, 4};
    const auto coupled = make_optimizer(rule.name, {{"weight_decay", 0.5}, {"coupled_weight_decay", 1}});
    const auto plain = make_optimizer(rule.name, {{"weight_decay", 0}});
    FlatVariables a(*coupled, random_values(shape.size(), 1), shape), b(*plain, a.param, shape);
    a.grad = random_values(shape.size(), 2);
    for (size_t i = 0; i < a.grad.size(); ++i) b.grad[i] = a.grad[i] + 0.5f * b.param[i];
    a.update(*coupled, 1);
    b.update(*plain, 1);
    EXPECT_EQ(a.param, b.param) << rule.name;
  }
}

// On the device, with a factor of the gradient there.
std::vector<std::vector<float>> run_on_gpu(const Optimizer& optimizer, const Shape& shape) {
  Stream stream = Stream::cuda(0);
  Pool pool(stream.device());
  const int64_t n = shape.size();
  const auto upload = [&](const std::vector<float>& values) {
    Buffer buffer(pool, n * size_of(DType::f32), Purpose::scratch);
    copy(stream, buffer.view(DType::f32, shape), ConstView{values.data(), DType::f32, DeviceKind::cpu, shape});
    stream.synchronize();
    return buffer;
  };
  const Buffer param = upload(random_values(n, 1)), grad = upload(random_values(n, 2));
  std::vector<Buffer> slots;
  std::vector<View> views;
  for (size_t s = 0; s < optimizer.slots().size(); ++s) {
    slots.push_back(upload(std::vector<float>(size_t(n))));
    views.push_back(slots.back().view(DType::f32, shape));
  }
  struct Cells {
    int64_t iteration = 0;
    double rate = 0.01;
    StepScalars decision;
    uint32_t variable = 1;
    float factors[2] = {77, 0.25f};
  } cells;
  const Buffer memory(pool, sizeof(Cells), Purpose::scratch),
      constants(pool, optimizer.constants_bytes(), Purpose::scratch);
  copy(stream, memory.data(), &cells, sizeof cells);
  auto* at = static_cast<std::byte*>(memory.data());
  const StepState state{.iteration = reinterpret_cast<int64_t*>(at + offsetof(Cells, iteration)),
                        .learning_rate = reinterpret_cast<double*>(at + offsetof(Cells, rate)),
                        .scalars = nullptr,
                        .decision = reinterpret_cast<StepScalars*>(at + offsetof(Cells, decision)),
                        .constants = constants.data()};
  const Buffer scratch(pool, std::max<int64_t>(1, optimizer.scratch_bytes(shape)), Purpose::scratch);
  for (int step = 1; step <= 3; ++step) {
    const std::vector<float> g = random_values(n, uint32_t(step));
    copy(stream, grad.view(DType::f32, shape), ConstView{g.data(), DType::f32, DeviceKind::cpu, shape});
    optimizer.prepare(stream, state, {}, nullptr);
    optimizer.update(stream, state,
                     {.param = param.view(DType::f32, shape),
                      .grad = grad.view(DType::f32, shape),
                      .slots = views,
                      .granules = {.variable_of = reinterpret_cast<uint32_t*>(at + offsetof(Cells, variable)),
                                   .factors = reinterpret_cast<float*>(at + offsetof(Cells, factors))},
                      .scratch = static_cast<std::byte*>(scratch.data())});
    stream.synchronize();
  }
  std::vector<std::vector<float>> results;
  const auto download = [&](const Buffer& buffer) {
    std::vector<float>& values = results.emplace_back(size_t(n));
    copy(stream, View{values.data(), DType::f32, DeviceKind::cpu, shape}, buffer.view(DType::f32, shape));
    stream.synchronize();
  };
  download(param);
  for (const Buffer& slot : slots) download(slot);
  return results;
}

TEST(TensorRules, HaveTheBitsOfTheCpuOnAGpu) {
  LOCKSTEP_NEEDS_GPU();
  for (const Rule& rule : rules()) {
    if (rule.name == "muon" && !products_have_equal_bits()) continue;
    for (const Shape& shape : rule.shapes) {
      const auto optimizer = make_optimizer(rule.name, {{"weight_decay", 0.1}});
      FlatVariables flat(*optimizer, random_values(shape.size(), 1), shape);
      for (int step = 1; step <= 3; ++step) {
        flat.grad = random_values(shape.size(), uint32_t(step));
        Stream stream = Stream::cpu();
        flat.prepare(*optimizer, stream, step, 0.01, {.grad_scale = 0.25f});  // exact, as a factor is
        flat.update_tensor(*optimizer, stream);
      }
      const std::vector<std::vector<float>> gpu = run_on_gpu(*optimizer, shape);
      EXPECT_EQ(gpu[0], flat.param) << rule.name << " " << to_string(shape);
      for (size_t s = 0; s < flat.slots.size(); ++s)
        EXPECT_EQ(gpu[1 + s], flat.slots[s]) << rule.name << " " << to_string(shape);
    }
  }
}

TEST(TensorRules, RefuseWhatOnlyRangesHave) {
  Stream stream = Stream::cpu();
  float numbers[4] = {};
  const uint32_t group = 0;
  const auto view = [&](DType dtype) { return View{numbers, dtype, DeviceKind::cpu, Shape{2, 2}}; };
  const View f32 = view(DType::f32), bf16 = view(DType::bf16);
  for (const Rule& rule : rules()) {
    const auto optimizer = make_optimizer(rule.name);
    EXPECT_TRUE(optimizer->updates_by_tensor()) << rule.name;
    const std::vector<View> slots(optimizer->slots().size(), f32);
    const UpdateOperands refused[] = {{.param = bf16, .grad = f32, .slots = slots},
                                      {.param = f32, .grad = f32, .slots = slots, .working_copy = bf16},
                                      {.param = f32, .grad = f32, .slots = slots, .granules = {.groups = &group}}};
    for (const UpdateOperands& operands : refused)
      EXPECT_THROW(optimizer->update(stream, StepState{}, operands), Error) << rule.name;
  }
  EXPECT_THROW((void)make_optimizer("muon")->scratch_bytes(Shape{3}), Error);
  EXPECT_EQ(make_optimizer("adam")->scratch_bytes(Shape{3}), 0);
}

// Lamb and Adam keep the same momentum, so equal bits show that both were given the same gradient.
TEST(TensorRules, TakeFactorsOfGradientsAsRangesDo) {
  constexpr int64_t kElements = 300;
  const uint32_t variable_of[kElements / 32 + 1] = {};
  const float factor = 0.37f;
  Stream stream = Stream::cpu();
  const auto momentum_of = [&](const Optimizer& optimizer) {
    FlatVariables flat(optimizer, random_values(kElements, 1), {kElements});
    flat.grad = random_values(kElements, 2);
    flat.prepare(optimizer, stream, 1, 0.01, {.grad_scale = 0.7f, .clip_value = 0.9f});
    flat.update_tensor(optimizer, stream, {.variable_of = variable_of, .factors = &factor});
    return flat.slots[0];
  };
  const std::map<std::string, double> decay = {{"weight_decay", 0.3}, {"coupled_weight_decay", 1}};
  EXPECT_EQ(momentum_of(*make_optimizer("lamb", decay)), momentum_of(*make_optimizer("adam", decay)));
}

// Inside of Muon, with Keras' numbers.
// Biases begin so: the length of the weight alone would keep it there.
TEST(Lamb, MovesAWeightOfZerosByTheRate) {
  const auto lamb = make_optimizer("lamb", {{"learning_rate", 0.25}});
  FlatVariables flat(*lamb, std::vector<float>(6), {2, 3});
  flat.grad = {1, -2, 3, -4, 5, -6};
  flat.update(*lamb, 1);
  for (size_t i = 0; i < 6; ++i) EXPECT_NEAR(flat.param[i], i % 2 == 0 ? -0.25 : 0.25, 1e-5) << i;
}

TEST(Muon, MakesMatricesOrthogonalAndAsLongAsKerasDoes) {
  const vectors::json all = vectors::read();
  const auto named = [&](const std::string& id) {
    return *std::ranges::find_if(all, [&](const vectors::json& v) { return v.at("id") == id; });
  };
  const vectors::json schulz = named("muon/newton_schulz");
  // From zero, at rate 1 and without adjustment, a step is the matrix that was made of the gradient.
  const auto muon =
      make_optimizer("muon", {{"learning_rate", 1}, {"rms_rate", 0}, {"nesterov", 0}, {"weight_decay", 0}});
  FlatVariables flat(*muon, std::vector<float>(4), {2, 2});
  flat.grad = vectors::floats(schulz.at("input"));
  flat.update(*muon, 1);
  for (float& w : flat.param) w = -w;
  vectors::expect_close(flat.param, schulz.at("expected"), schulz.at("atol"), schulz.at("rtol"), "newton_schulz");
  vectors::expect_close(flat.param, schulz.at("ref_float64"), 2e-5, 2e-5, "newton_schulz in double");

  const double expected = named("muon/lr_adjust").at("expected_factor");
  EXPECT_DOUBLE_EQ(Muon{}.length(4, 2), expected);
  EXPECT_DOUBLE_EQ(Muon{}.length(2, 4), expected);
  EXPECT_DOUBLE_EQ(Muon{.rms_rate = 0}.length(4, 2), 1);
  EXPECT_DOUBLE_EQ((Muon{.definition = FormulaStyle::torch}.length(8, 2)), 2);
  EXPECT_DOUBLE_EQ((Muon{.definition = FormulaStyle::torch}.length(2, 8)), 1);
}

TEST(Adafactor, LeavesAloneWhatHasNoGradient) {
  const auto adafactor = make_optimizer("adafactor");
  FlatVariables flat(*adafactor, std::vector<float>(12, 1.0f), {3, 4});
  for (int step = 1; step <= 3; ++step) {
    flat.grad = {0, 0, 0, 0, 0, 1, -2, 3, 0, 4, 5, 6};  // a row and a column of zeros
    flat.update(*adafactor, step);
  }
  for (size_t i = 0; i < 12; ++i) EXPECT_EQ(flat.param[i] == 1, i < 4 || i % 4 == 0) << i << " is " << flat.param[i];
}

TEST(Adafactor, FactorsWhatHasTwoLongDimensions) {
  for (const Shape& shape : {Shape{}, Shape{7}, Shape{1, 9}, Shape{9, 1}, Shape{4, 1, 5}, Shape{0, 3, 4}, Shape{3, 0}})
    EXPECT_FALSE(factored_shape(shape).factored) << to_string(shape);
  const FactoredShape shape = factored_shape({2, 3, 4, 5});
  EXPECT_TRUE(shape.factored);
  EXPECT_EQ(shape.matrices, 6);
  EXPECT_EQ(shape.rows, 4);
  EXPECT_EQ(shape.columns, 5);
}

}  // namespace
}  // namespace lockstep
