// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan/table_rows.h"

#include <algorithm>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

#include "kernels/device/check.h"
#include "kernels/device/number_text.h"

namespace lockstep {
namespace {

constexpr size_t kFewest = 3;  // rows that are folded

// Where a number stands in a name.
struct Place {
  size_t begin, end;
};

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// The numbers of a name that are not folded yet and have no leading zeros.
std::vector<Place> numbers_of(std::string_view name) {
  std::vector<Place> places;
  int braces = 0;
  for (size_t i = 0; i < name.size(); ++i) {
    braces += name[i] == '{' ? 1 : name[i] == '}' ? -1 : 0;
    if (!is_digit(name[i])) continue;
    const size_t begin = i;
    while (i + 1 < name.size() && is_digit(name[i + 1])) ++i;
    const bool plain = name[begin] != '0' || i == begin;
    if (braces == 0 && plain && i - begin < 12) places.push_back({begin, i + 1});
  }
  return places;
}

struct Member {
  int64_t number;
  size_t row;
};

std::string folded(const std::string& name, Place place, const std::vector<Member>& members, size_t first,
                   size_t last) {
  const int64_t from = members[first].number, next = members[first + 1].number, to = members[last].number;
  const std::string numbers =
      next == from + 1 ? str("{", from, "..", to, "}") : str("{", from, ",", next, "..", to, "}");
  return name.substr(0, place.begin) + numbers + name.substr(place.end);
}

// Folds rows by the number that is the index-th of their names; returns whether any were.
bool fold_number(std::vector<TableRow>& rows, size_t index) {
  std::map<std::string, std::vector<Member>> families;
  std::vector<std::optional<Place>> places(rows.size());
  for (size_t r = 0; r < rows.size(); ++r) {
    const std::string& name = rows[r].name;
    const std::vector<Place> numbers = numbers_of(name);
    if (index >= numbers.size()) continue;
    places[r] = numbers[index];
    const auto [begin, end] = numbers[index];
    const std::string key =
        str(name.substr(0, begin), '\0', name.substr(end), '\0', rows[r].count, '\0', rows[r].alike);
    families[key].push_back({*whole_number_in(std::string_view(name).substr(begin, end - begin)), r});
  }
  std::vector<bool> gone(rows.size());
  bool any = false;
  for (auto& [key, members] : families) {
    std::ranges::sort(members, {}, &Member::number);
    for (size_t first = 0; first + 1 < members.size();) {
      const int64_t step = members[first + 1].number - members[first].number;
      size_t last = first + 1;
      while (last + 1 < members.size() && members[last + 1].number - members[last].number == step) ++last;
      if (step == 0 || last - first + 1 < kFewest) {
        ++first;
        continue;
      }
      size_t kept = members[first].row;
      for (size_t m = first; m <= last; ++m) kept = std::min(kept, members[m].row);
      for (size_t m = first; m <= last; ++m) gone[members[m].row] = members[m].row != kept;
      rows[kept].name = folded(rows[kept].name, *places[kept], members, first, last);
      rows[kept].count *= int64_t(last - first + 1);
      any = true;
      first = last + 1;
    }
  }
  std::vector<TableRow> left;
  for (size_t r = 0; r < rows.size(); ++r)
    if (!gone[r]) left.push_back(std::move(rows[r]));
  rows = std::move(left);
  return any;
}

}  // namespace

std::vector<TableRow> fold_rows(std::vector<TableRow> rows) {
  constexpr size_t kMostNumbers = 8;  // of a name
  for (size_t index = 0; index < kMostNumbers;)
    // What was folded is no number any more, and the next one has its index.
    if (!fold_number(rows, index)) ++index;
  return rows;
}

}  // namespace lockstep
