// SPDX-License-Identifier: Apache-2.0
// Tables of a plan for people. Rows that repeat with a number, as layers do, become one: decoder/{0..23}/mlp/up/weight.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lockstep {

struct TableRow {
  std::string name;
  std::vector<std::string> cells = {};  // of the other columns
  int64_t count = 1;                    // of the rows that this one stands for
};

// Rows that are alike but for one number of their names are folded into the first of them where the numbers are at
// least three in equal steps: {0..23}, or {1,4..22}. Several numbers fold one after the other. The order stays that of
// first rows.
std::vector<TableRow> fold_rows(std::vector<TableRow> rows);

}  // namespace lockstep
