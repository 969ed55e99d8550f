// SPDX-License-Identifier: Apache-2.0
#include "kernels/philox.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace lockstep {
namespace {

using testing::ElementsAre;

// The known answers that the authors publish with Random123 for philox4x32 with 10 rounds.
TEST(Philox, GivesTheAnswersOfItsAuthors) {
  EXPECT_THAT(philox4x32(0, 0, 0).v, ElementsAre(0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8));
  EXPECT_THAT(philox4x32(~uint64_t(0), ~uint64_t(0), ~uint64_t(0)).v,
              ElementsAre(0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd));
  EXPECT_THAT(philox4x32(0x299f31d0a4093822, 0x85a308d3243f6a88, 0x0370734413198a2e).v,
              ElementsAre(0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1));
}

}  // namespace
}  // namespace lockstep
