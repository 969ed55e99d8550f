// SPDX-License-Identifier: Apache-2.0
// Updates of parameters that are kept in bf16 or f16: copies of an f32 master, or bf16 alone, rounded stochastically.
#include <gmock/gmock.h>

#include <cmath>
#include <functional>
#include <string>

#include "kernels/stochastic_rounding.h"
#include "tests/optimizers/device_variables.h"
#include "tests/optimizers/every_rule.h"
#include "tests/optimizers/same_bits.h"
#include "tests/support/devices.h"

namespace lockstep {
namespace {

using testing::Each;
using testing::HasSubstr;

std::vector<DeviceKind> devices() {
  if (has_gpu()) return {DeviceKind::cpu, DeviceKind::cuda};
  return {DeviceKind::cpu};
}

// Variables of 64, 32 and 37 elements, stored in an order that is not the one they were declared in.
const std::vector<uint32_t> kVariableOf = {1, 1, 0, 2, 2};
constexpr int64_t kElements = 32 * 4 + 5;
const std::vector<float> kFactors = {1, 0.5f, 2};
const std::vector<int64_t> kNumbers = {0 - 2, 1 - 0, 3 - 3};  // granule 2 is number 0, granules 0 and 1 are 1 and 2
constexpr int64_t number_of(int64_t granule) { return granule < 2 ? granule + 1 : granule == 2 ? 0 : granule; }

GranuleMap granules_in(DeviceMemory& memory) {
  return {.variable_of = memory.put(kVariableOf), .factors = memory.put(kFactors), .numbers = memory.put(kNumbers)};
}

std::vector<float> with_factors(std::vector<float> gradient) {
  for (size_t i = 0; i < gradient.size(); ++i) gradient[i] *= kFactors[kVariableOf[i / 32]];
  return gradient;
}

// What the noise of a step makes of parameters that were updated in f32.
void round_all(std::vector<float>& param, uint64_t seed, int64_t step) {
  const uint64_t key = rounding_key(seed, step);
  for (size_t i = 0; i < param.size(); ++i) {
    const GranuleNoise noise{&key, number_of(int64_t(i) / 32), nullptr, nullptr};
    param[i] = round_stochastically(param[i], noise.load(int64_t(i) % 32));
  }
}

std::vector<float> in_bf16(std::vector<float> values) {
  for (float& x : values) x = float(bfloat16(x));
  return values;
}

template <class T>
std::vector<float> rounded_to(const std::vector<float>& values) {
  std::vector<float> all;
  for (const float x : values) all.push_back(float(T(x)));
  return all;
}

void expect_masters_and_copies(const Variant& variant, DeviceKind kind, DType dtype, int64_t offset) {
  const std::string what = str(variant.text(), " ", to_string(dtype), " device ", int(kind), " at ", offset);
  const auto rule = variant.make({{"weight_decay", 0.01}});
  FlatVariables expected(*rule, eighths(kElements, 1));
  DeviceVariables kept(*rule, expected, offset, kind);
  kept.add_working_copy(dtype, offset);
  kept.set_granules(granules_in(kept.memory()));
  for (int64_t step = 1; step <= 20; ++step) {
    const std::vector<float> gradient = eighths(kElements, uint32_t(1 + step));
    kept.step(gradient);
    expected.grad = with_factors(gradient);
    expected.update(*rule, step);
    ASSERT_TRUE(same_bits(kept.working_copy(), dtype == DType::bf16 ? rounded_to<bfloat16>(expected.param)
                                                                    : rounded_to<float16>(expected.param)))
        << what << ", step " << step;
  }
  expect_same_bits(kept.get(), expected, what);
}

TEST(NarrowParametersOnAGpu, AreCopiesOfTheirMastersRoundedToNearest) {
  for (const DeviceKind kind : devices())
    for (const Variant& variant : every_variant())
      for (const DType dtype : {DType::bf16, DType::f16})
        for (const int64_t offset : {0, 1}) expect_masters_and_copies(variant, kind, dtype, offset);
}

TEST(NarrowParametersOnAGpu, AreRoundedStochasticallyByTheirNumbersWhereverRangesAreCut) {
  for (const DeviceKind kind : devices())
    for (const Variant& variant : every_variant())
      for (const int64_t cut : {0, 32, 96}) {
        const std::string what = str(variant.text(), " device ", int(kind), " cut at ", cut);
        const auto rule = variant.make();
        FlatVariables expected(*rule, in_bf16(eighths(kElements, 1)));
        DeviceVariables kept(*rule, expected, cut == 96 ? 1 : 0, kind);
        kept.round_stochastically(11, cut == 96 ? 1 : 0);
        kept.set_granules(granules_in(kept.memory()));
        for (int64_t step = 1; step <= 20; ++step) {
          const std::vector<float> gradient = eighths(kElements, uint32_t(1 + step));
          kept.set_gradient(gradient);
          kept.prepare();
          kept.update_range(0, cut);
          kept.update_range(cut, kElements);
          expected.grad = with_factors(gradient);
          expected.update(*rule, step);
          round_all(expected.param, 11, step);
        }
        expect_same_bits(kept.get(), expected, what);
        EXPECT_THAT(kept.get().grad, Each(0)) << what;
      }
}

TEST(NarrowParametersOnAGpu, AHundredStepsOfAdamTakeTheBitsOfTheCpu) {
  LOCKSTEP_NEEDS_GPU();
  const auto adam = make_optimizer("adam");
  const FlatVariables begun(*adam, in_bf16(eighths(kElements, 1)));
  const std::function<void(DeviceVariables&)> kinds[] = {[](DeviceVariables&) {},
                                                         [](DeviceVariables& v) { v.add_working_copy(DType::bf16); },
                                                         [](DeviceVariables& v) { v.add_working_copy(DType::f16); },
                                                         [](DeviceVariables& v) { v.round_stochastically(3); }};
  for (const auto& keep : kinds) {
    DeviceVariables cpu(*adam, begun, 0, DeviceKind::cpu), gpu(*adam, begun);
    for (DeviceVariables* each : {&cpu, &gpu}) {
      keep(*each);
      each->set_granules(granules_in(each->memory()));
      for (int64_t step = 1; step <= 100; ++step) each->step(eighths(kElements, uint32_t(1 + step)));
    }
    expect_same_bits(gpu.get(), cpu.get(), "adam");
    EXPECT_EQ(gpu.iteration(), 100);
  }
}

TEST(NarrowParametersOnAGpu, StayAsTheyAreInASkippedStepAndOutsideOfTheirGroup) {
  for (const DeviceKind kind : devices())
    for (const bool stochastic : {false, true}) {
      const auto adam = make_optimizer("adam", {{"learning_rate", 1}});
      const FlatVariables begun(*adam, in_bf16(eighths(kElements, 1)));
      DeviceVariables kept(*adam, begun, 0, kind);
      stochastic ? kept.round_stochastically(5) : kept.add_working_copy();
      GranuleMap granules = granules_in(kept.memory());
      granules.groups = kept.memory().put<uint32_t>({0, 1, 0});
      granules.group = 1;
      kept.set_granules(granules);
      kept.step(eighths(kElements, 2));
      const FlatVariables after = kept.get();
      int changed = 0;  // of variable 1; few of its gradients are zero
      for (int64_t i = 0; i < kElements; ++i)
        if (i < 64)
          changed += after.param[size_t(i)] != begun.param[size_t(i)];
        else
          ASSERT_EQ(after.param[size_t(i)], begun.param[size_t(i)]) << i;
      EXPECT_GT(changed, 50);

      kept.memory().set(kept.state().decision, {StepScalars{.skip = true}});
      kept.set_gradient(std::vector<float>(size_t(kElements), std::nanf("")));
      kept.update();
      FlatVariables expected = after;
      for (int64_t i = 0; i < kElements; ++i) expected.grad[size_t(i)] = i < 64 ? 0 : std::nanf("");
      EXPECT_TRUE(same_bits(kept.get().param, after.param));
      EXPECT_TRUE(same_bits(kept.get().grad, expected.grad)) << "only the group's own gradients are cleared";
    }
}

// Every update is a 512th of the weight's last place: lost for ever by rounding to nearest, kept by both of our ways.
TEST(NarrowParameters, KeepUpdatesBelowTheirLastPlace) {
  constexpr float kStep = 0x1p-7f / 512;
  const auto sgd = make_optimizer("sgd", {{"learning_rate", 1}});
  const std::vector<float> ones(size_t(kElements), 1.0f), gradient(size_t(kElements), -kStep);
  EXPECT_EQ(float(bfloat16(1 + kStep)), 1) << "or there is nothing to show";
  DeviceVariables master(*sgd, FlatVariables(*sgd, ones), 0, DeviceKind::cpu);
  master.add_working_copy();
  DeviceVariables stochastic(*sgd, FlatVariables(*sgd, ones), 0, DeviceKind::cpu);
  stochastic.round_stochastically(1);
  for (DeviceVariables* each : {&master, &stochastic}) {
    each->set_granules({.variable_of = each->memory().put(kVariableOf),
                        .factors = each->memory().put(std::vector<float>(3, 1.0f)),
                        .numbers = each->memory().put(kNumbers)});
    for (int step = 0; step < 1024; ++step) each->step(gradient);
  }
  EXPECT_THAT(master.working_copy(), Each(1 + 1024 * kStep));
  double sum = 0;
  for (const float x : stochastic.get().param) sum += double(x) - 1;
  // Each element climbs by a binomial number of last places: 1024 of 1/512, so 2 in the mean with a variance of 2.
  EXPECT_NEAR(sum / kElements, 2 * 0x1p-7, 5 * 0x1p-7 * std::sqrt(2.0 / kElements));
}

TEST(NarrowParameters, WhatIsMissingIsAnError) {
  const auto sgd = make_optimizer("sgd");
  Stream stream = Stream::cpu();
  std::vector<float> memory(4);
  std::vector<double> constants(size_t(sgd->constants_bytes() / 8 + 1));
  StepScalars decision;
  const StepState state{nullptr, nullptr, nullptr, &decision, constants.data()};
  const View four{memory.data(), DType::f32, DeviceKind::cpu, Shape{4}};
  const auto narrow = [&](DType dtype, int64_t n) { return View{memory.data(), dtype, DeviceKind::cpu, Shape{n}}; };
  const uint32_t variable_of[] = {0};
  const GranuleMap factors{.variable_of = variable_of, .factors = memory.data()};
  const auto error = [&](const UpdateOperands& operands) -> std::string {
    try {
      sgd->update(stream, state, operands);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_THAT(
      error({.param = four, .grad = four, .slots = {}, .working_copy = narrow(DType::bf16, 3), .granules = factors}),
      HasSubstr("expected a working copy of 4 elements, got 3"));
  EXPECT_THAT(error({.param = four, .grad = four, .slots = {}, .working_copy = narrow(DType::bf16, 4)}),
              HasSubstr("wants factors of variables"));
  EXPECT_THAT(error({.param = narrow(DType::bf16, 4), .grad = four, .slots = {}, .granules = factors}),
              HasSubstr("stochastic rounding wants numbers"));
  EXPECT_THAT(error({.param = narrow(DType::f16, 4), .grad = four, .slots = {}}), HasSubstr("got 4 of f16"));
  EXPECT_THAT(
      error({.param = four, .grad = four, .slots = {}, .working_copy = narrow(DType::f32, 4), .granules = factors}),
      HasSubstr("expected a working copy of bf16 or f16, got f32"));
}

}  // namespace
}  // namespace lockstep
