// SPDX-License-Identifier: Apache-2.0
// Settings of a run from a file, as they would be typed.
#include "tools/planning/config_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/device/check.h"

namespace lockstep {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::string refusal(std::string_view text) {
  try {
    read_config_text(text, "run.toml");
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::data);
    return error.what();
  }
  return "accepted";
}

TEST(ConfigFile, GivesValuesAsTheyWouldBeTyped) {
  const std::vector<ConfigEntry> entries = read_config_text(
      "[train]\nsteps = 100\n[model]\ntied = false\ndropout = 0.1\npreset = \"gpt-mini\"\n[data]\ntrain = [\"a\", "
      "\"b\"]\n",
      "run.toml");
  ASSERT_EQ(entries.size(), 5u);
  EXPECT_EQ(entries[0].key, "data.train");
  EXPECT_THAT(entries[0].values, ElementsAre("a", "b"));
  EXPECT_EQ(entries[0].where, "run.toml:8");
  EXPECT_EQ(entries[1].key, "model.dropout");
  EXPECT_THAT(entries[1].values, ElementsAre("0.1"));
  EXPECT_THAT(entries[2].values, ElementsAre("gpt-mini"));
  EXPECT_THAT(entries[3].values, ElementsAre("false"));
  EXPECT_EQ(entries[4].key, "train.steps");
  EXPECT_THAT(entries[4].values, ElementsAre("100"));
  EXPECT_EQ(entries[4].where, "run.toml:2");
}

TEST(ConfigFile, NamesFileAndLineOfWhatIsNoSetting) {
  EXPECT_THAT(refusal("steps = 3"), HasSubstr("run.toml:1: 'steps' stands outside of a section"));
  EXPECT_THAT(refusal("[train]\nsteps = "), HasSubstr("run.toml:2: no TOML"));
  EXPECT_THAT(refusal("[train]\n\nsteps = []"), HasSubstr("run.toml:3: 'train.steps': expected at least one value"));
  EXPECT_THAT(refusal("[train]\nsave = \"\""), HasSubstr("run.toml:2: 'train.save': expected a text of at least one"));
  EXPECT_THAT(refusal("[train]\nsteps = 2020-01-01"),
              HasSubstr("run.toml:2: 'train.steps': expected a text, a number"));
  EXPECT_THAT(refusal("[train.more]\nsteps = 1"), HasSubstr("'train.more': expected a text, a number"));
}

}  // namespace
}  // namespace lockstep
