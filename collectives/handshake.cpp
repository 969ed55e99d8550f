// SPDX-License-Identifier: Apache-2.0
#include "collectives/handshake.h"

#include <algorithm>

namespace lockstep {

namespace {

constexpr size_t kShown = 160;
constexpr size_t kNamedRanks = 4;

// The part of `text` that differs from the others, which are equal up to `common`.
std::string excerpt(const std::string& text, size_t common) {
  if (text.size() <= kShown) return text;
  const size_t begin = common > kShown / 4 ? common - kShown / 4 : 0;
  return str(begin > 0 ? "..." : "", text.substr(begin, kShown), begin + kShown < text.size() ? "..." : "");
}

size_t common_prefix(const std::vector<std::string>& texts) {
  size_t common = texts[0].size();
  for (const std::string& text : texts) {
    const auto stop = std::mismatch(texts[0].begin(), texts[0].end(), text.begin(), text.end()).first;
    common = std::min(common, size_t(stop - texts[0].begin()));
  }
  return common;
}

std::string holders(const Communicator& ranks, const std::vector<std::string>& values, const std::string& value) {
  std::string names;
  size_t count = 0;
  for (int rank = 0; rank < ranks.size(); ++rank) {
    if (values[size_t(rank)] != value) continue;
    if (++count <= kNamedRanks) names += str(names.empty() ? "" : ", ", ranks.describe(rank));
  }
  if (count > kNamedRanks) names += str(" and ", count - kNamedRanks, " more");
  return names + (count == 1 ? " has '" : " have '");
}

void check_equal(Communicator& ranks, const NamedValue& mine) {
  const std::vector<std::string> values = ranks.all_gather_bytes(mine.value);
  std::vector<std::string> different;
  for (const std::string& value : values)
    if (std::ranges::find(different, value) == different.end()) different.push_back(value);
  if (different.size() == 1) return;
  const size_t common = common_prefix(different);
  std::string text = str("the ranks disagree about '", mine.name, "': ");
  for (const std::string& value : different)
    text += str(&value == &different[0] ? "" : "; ", holders(ranks, values, value), excerpt(value, common), "'");
  fail(ErrorCode::mismatch, text + "; start the same program with the same options and data on every rank");
}

}  // namespace

void check_agreement(Communicator& ranks, const std::vector<NamedValue>& values) {
  std::string names;
  for (const NamedValue& value : values) names += value.name + ' ';
  check_equal(ranks, {"names of the values to compare", names});
  for (const NamedValue& value : values) check_equal(ranks, value);
}

}  // namespace lockstep
