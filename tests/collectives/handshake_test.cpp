// SPDX-License-Identifier: Apache-2.0
#include "collectives/handshake.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/ranks.h"

namespace lockstep {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

std::string refusal(Communicator& comm, const std::vector<NamedValue>& values) {
  try {
    check_agreement(comm, values);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::mismatch);
    return error.what();
  }
  return "agreed";
}

TEST(Handshake, EqualValuesAgree) {
  on_every_group([](Communicator& comm) { EXPECT_EQ(refusal(comm, {{"binary", "0123"}, {"options", ""}}), "agreed"); });
}

TEST(Handshake, EveryRankNamesTheValueThatDiffersAndWhoHasIt) {
  on_every_group([](Communicator& comm) {
    if (comm.size() == 1) return;
    const bool odd = comm.rank() == comm.size() - 1;
    const std::string message =
        refusal(comm, {{"binary", "0123"}, {"options", odd ? "batch=64" : "batch=128"}, {"data", str(comm.rank())}});
    EXPECT_THAT(message,
                AllOf(HasSubstr("'options'"), HasSubstr("'batch=128'"), HasSubstr("'batch=64'"), HasSubstr("rank 0 ("),
                      HasSubstr(str("rank ", comm.size() - 1, " (")), Not(HasSubstr("'data'"))));
    for (const std::string& theirs : comm.all_gather_bytes(message)) EXPECT_EQ(theirs, message);
  });
}

TEST(Handshake, ShowsLongValuesWhereTheyPart) {
  run_ranks(2, [](Communicator& comm) {
    const std::string options = std::string(3000, 'x') + (comm.rank() ? "seed=1" : "seed=2") + std::string(3000, 'y');
    const std::string message = refusal(comm, {{"options", options}});
    EXPECT_THAT(message, AllOf(HasSubstr("seed=1"), HasSubstr("seed=2")));
    EXPECT_LT(message.size(), 700u);
  });
}

TEST(Handshake, DifferentListsOfValuesAreADifference) {
  run_ranks(2, [](Communicator& comm) {
    std::vector<NamedValue> values{{"binary", "1"}};
    if (comm.rank() == 1) values.push_back({"plan", "2"});
    EXPECT_THAT(refusal(comm, values), HasSubstr("binary plan"));
  });
}

}  // namespace
}  // namespace lockstep
