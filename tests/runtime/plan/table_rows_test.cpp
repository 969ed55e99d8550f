// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan/table_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "kernels/device/check.h"

namespace lockstep {
namespace {

using testing::ElementsAre;

// "name xCOUNT" of what rows with these names and equal cells are folded to.
std::vector<std::string> names_folded(const std::vector<std::string>& names) {
  std::vector<TableRow> rows;
  for (const std::string& name : names) rows.push_back({name});
  std::vector<std::string> shown;
  for (const TableRow& row : fold_rows(rows)) shown.push_back(str(row.name, " x", row.count));
  return shown;
}

TEST(FoldRows, MakesOneRowOfLayersThatAreAlike) {
  std::vector<std::string> names = {"embedding/table"};
  for (int layer = 0; layer < 24; ++layer)
    for (const char* part : {"up/weight", "up/bias"}) names.push_back(str("decoder/", layer, "/", part));
  names.push_back("head/weight");
  EXPECT_THAT(names_folded(names), ElementsAre("embedding/table x1", "decoder/{0..23}/up/weight x24",
                                               "decoder/{0..23}/up/bias x24", "head/weight x1"));
}

TEST(FoldRows, FoldsSeveralNumbersOneAfterTheOther) {
  std::vector<std::string> names;
  for (int block = 1; block <= 3; ++block)
    for (int layer = 0; layer < 4; ++layer) names.push_back(str("block_", block, "/layer_", layer, "/weight"));
  EXPECT_THAT(names_folded(names), ElementsAre("block_{1..3}/layer_{0..3}/weight x12"));
}

TEST(FoldRows, LeavesRowsThatAreTooFewOrDiffer) {
  const std::vector<std::string> two = {"dense_1/bias", "dense_2/bias"}, padded = {"a/01", "a/02", "a/03"};
  EXPECT_THAT(names_folded(two), ElementsAre("dense_1/bias x1", "dense_2/bias x1"));
  EXPECT_EQ(names_folded(padded).size(), 3u);
  std::vector<TableRow> rows;
  for (int i = 0; i < 7; ++i) rows.push_back({str("layer/", i), i == 3 ? "frozen" : "trained", str("text ", i)});
  std::vector<std::string> shown;
  for (const TableRow& row : fold_rows(rows)) shown.push_back(str(row.name, " ", row.alike, " ", row.text));
  EXPECT_THAT(shown,
              ElementsAre("layer/{0..2} trained text 0", "layer/3 frozen text 3", "layer/{4..6} trained text 4"));
}

TEST(FoldRows, KnowsEqualSteps) {
  EXPECT_THAT(names_folded({"bucket 1", "other", "bucket 4", "bucket 7", "bucket 10", "bucket 11"}),
              ElementsAre("bucket {1,4..10} x4", "other x1", "bucket 11 x1"));
  EXPECT_THAT(names_folded({"same 1", "same 1", "same 1"}), ElementsAre("same 1 x1", "same 1 x1", "same 1 x1"));
}

}  // namespace
}  // namespace lockstep
