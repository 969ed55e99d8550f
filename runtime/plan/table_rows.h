// SPDX-License-Identifier: Apache-2.0
// Tables of a plan for people. Rows that repeat with a number, as layers do, become one: decoder/{0..23}/mlp/up/weight.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace lockstep {

struct TableRow {
  std::string name;
  std::string alike = {};  // what rows must have in common to be folded
  std::string text = {};   // the other columns; those of the first row stand for all
  int64_t count = 1;       // of the rows that this one stands for
};

// Alike rows whose names differ by one number are folded into the first of them where the numbers are at least three in
// equal steps: {0..23}, or {1,4..22}. Several numbers fold one after the other. The order stays that of
// first rows.
std::vector<TableRow> fold_rows(std::vector<TableRow> rows);

}  // namespace lockstep
