// SPDX-License-Identifier: Apache-2.0
// What ranks compare before they add up each other's numbers.
#include "kernels/numerics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cfenv>

#include "kernels/config.h"
#include "tests/support/devices.h"

namespace lockstep {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

TEST(Numerics, NameTheLibraryThatMultiplies) {
  EXPECT_THAT(numerics({}), StartsWith(config::onednn ? "oneDNN-" : "Eigen-"));
  EXPECT_THAT(numerics({}), Not(HasSubstr(" "))) << "a ledger's first line is divided by spaces";
  EXPECT_THAT(numerics({}), Not(HasSubstr("rounding")));
}

TEST(Numerics, TellAnotherRoundingOfTheProcess) {
  std::fesetround(FE_UPWARD);
  const std::string upward = numerics({});
  std::fesetround(FE_TONEAREST);
  EXPECT_THAT(upward, HasSubstr(",rounding:"));
}

#if defined(__x86_64__)
TEST(Numerics, TellThatDenormalsAreFlushed) {
  const unsigned before = __builtin_ia32_stmxcsr();
  __builtin_ia32_ldmxcsr(before | 0x8040);
  const std::string flushed = numerics({});
  __builtin_ia32_ldmxcsr(before);
  EXPECT_THAT(flushed, HasSubstr(",denormals:flushed"));
  EXPECT_THAT(numerics({}), Not(HasSubstr("denormals")));
}
#endif

TEST(Numerics, OfAnEmulatedGpuAreThoseOfTheCpu) {
  LOCKSTEP_NEEDS_GPU();
  EXPECT_EQ(numerics(Stream::cuda(0).device()) == numerics({}), gpu_is_emulated());
}

}  // namespace
}  // namespace lockstep
