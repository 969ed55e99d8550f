// SPDX-License-Identifier: Apache-2.0
// The running average of parameters on CPU and GPU: its definition, and what it leaves alone.
#include "optimizers/moving_average.h"

#include <gmock/gmock.h>

#include <cmath>

#include "tests/optimizers/device_variables.h"
#include "tests/optimizers/same_bits.h"
#include "tests/support/devices.h"

namespace lockstep {
namespace {

// Variables of two granules, one, and a part of one; the middle one is frozen where groups are given.
const std::vector<uint32_t> kVariableOf = {0, 0, 1, 2};
const std::vector<uint32_t> kGroups = {0, kNoGroup, 3};
constexpr int64_t kElements = 32 * 3 + 5;

struct Averaged {
  std::vector<float> param, average;
};

struct Setting {
  DeviceKind kind = DeviceKind::cpu;
  int64_t offset = 0;  // of the arrays from an aligned address
  bool bf16 = false;
  bool frozen = false;
  bool skip = false;
  int64_t overwrite_every = 0;
};

// One launch in step `step`, counted from 1, with m = 0.75.
Averaged launched(const Setting& setting, const Averaged& before, int64_t step) {
  DeviceMemory memory(setting.kind);
  GuardedArray<float> wide(memory, before.param, setting.offset), average(memory, before.average, setting.offset);
  NarrowArray narrow(memory, DType::bf16, before.param, setting.offset);
  GranuleMap granules;
  if (setting.frozen) granules = {.variable_of = memory.put(kVariableOf), .groups = memory.put(kGroups)};
  launch(memory.stream(), AverageParameters{.momentum = 0.75,
                                            .overwrite_every = setting.overwrite_every,
                                            .iteration = memory.put<int64_t>({step}),
                                            .decision = memory.put<StepScalars>({StepScalars{.skip = setting.skip}}),
                                            .param = setting.bf16 ? narrow.view() : wide.view(),
                                            .average = average.view(),
                                            .granules = granules});
  memory.stream().synchronize();
  return {setting.bf16 ? narrow.get() : wide.get(), average.get()};
}

// The definition, element by element.
Averaged expected(const Setting& setting, Averaged all, int64_t step) {
  if (setting.skip) return all;
  for (size_t i = 0; i < all.param.size(); ++i) {
    if (setting.frozen && kGroups[kVariableOf[i / 32]] == kNoGroup) continue;
    float &w = all.param[i], &average = all.average[i];
    average = step == 1 ? w : average + (w - average) * 0.25f;
    if (setting.overwrite_every > 0 && step % setting.overwrite_every == 0)
      w = setting.bf16 ? float(bfloat16(average)) : average;
  }
  return all;
}

void expect_definition(DeviceKind kind) {
  // Eighths in [-8, 8] are numbers of bf16.
  const Averaged before{eighths(kElements, 1), eighths(kElements, 2)};
  for (const int64_t offset : {0, 1})
    for (const bool bf16 : {false, true})
      for (const bool frozen : {false, true})
        for (const bool skip : {false, true})
          for (const int64_t overwrite_every : {0, 1, 3})
            for (const int64_t step : {1, 2, 3}) {
              const Setting setting{kind, offset, bf16, frozen, skip, overwrite_every};
              const Averaged actual = launched(setting, before, step), wanted = expected(setting, before, step);
              const std::string what = str("offset ", offset, ", bf16 ", bf16, ", frozen ", frozen, ", skip ", skip,
                                           ", every ", overwrite_every, ", step ", step);
              EXPECT_TRUE(same_bits(actual.param, wanted.param)) << what;
              EXPECT_TRUE(same_bits(actual.average, wanted.average)) << what;
            }
}

TEST(AverageParameters, FollowTheirDefinitionAndLeaveFrozenVariablesAlone) { expect_definition(DeviceKind::cpu); }

TEST(AverageParametersOnAGpu, FollowTheirDefinitionAndLeaveFrozenVariablesAlone) {
  LOCKSTEP_NEEDS_GPU();
  expect_definition(DeviceKind::cuda);
}

}  // namespace
}  // namespace lockstep
