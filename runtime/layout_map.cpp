// SPDX-License-Identifier: Apache-2.0
#include "runtime/layout_map.h"

#include <re2/re2.h>
#include <re2/set.h>

#include <algorithm>
#include <unordered_map>

#include "kernels/device/check.h"

namespace lockstep {
namespace {

constexpr size_t kLongestPattern = 4096;
constexpr int64_t kMatcherMemory = 8 << 20;  // bytes; RE2 refuses patterns that need more

RE2::Options options() {
  RE2::Options options;
  options.set_log_errors(false);
  options.set_max_mem(kMatcherMemory);
  return options;
}

std::string quoted(const LayoutRule& rule) {
  return str("'", rule.pattern, "'", rule.where.empty() ? std::string() : " (" + rule.where + ")");
}

// Long patterns are shown by their beginning.
std::string shown(std::string_view pattern) {
  return pattern.size() <= 80 ? std::string(pattern) : std::string(pattern.substr(0, 80)) + "...";
}

}  // namespace

struct LayoutMap::Patterns {
  std::unordered_map<std::string, int> exact;
  std::unique_ptr<RE2::Set> set;  // all patterns at once, built when a path is first looked up
};

LayoutMap::LayoutMap() : patterns_(std::make_unique<Patterns>()) {}
LayoutMap::~LayoutMap() = default;
LayoutMap::LayoutMap(LayoutMap&&) noexcept = default;
LayoutMap& LayoutMap::operator=(LayoutMap&&) noexcept = default;

LayoutMap::LayoutMap(const LayoutMap& other) : LayoutMap() {
  for (const LayoutRule& rule : other.rules_) add(rule.pattern, rule.layout, rule.where);
}
LayoutMap& LayoutMap::operator=(const LayoutMap& other) {
  if (this != &other) *this = LayoutMap(other);
  return *this;
}

void LayoutMap::add(std::string pattern, Layout layout, std::string where) {
  const auto at = [&] { return where.empty() ? std::string() : where + ": "; };
  check(!pattern.empty(), ErrorCode::plan,
        [&] { return str(at(), "a layout rule needs a pattern, such as '.*/weight'; got an empty one"); });
  check(pattern.size() <= kLongestPattern, ErrorCode::plan, [&] {
    return str(at(), "the pattern '", shown(pattern), "' has ", pattern.size(), " characters; at most ",
               kLongestPattern, " are allowed");
  });
  const auto known = patterns_->exact.find(pattern);
  check(known == patterns_->exact.end(), ErrorCode::plan, [&] {
    return str(at(), "there are two layout rules for '", shown(pattern), "'; keep one (the first is ",
               quoted(rules_[size_t(known->second)]), ")");
  });
  const RE2 compiled(pattern, options());
  check(compiled.ok(), ErrorCode::plan, [&] {
    return str(at(), "'", shown(pattern), "' is no regular expression: ", compiled.error(),
               "; patterns have RE2's syntax and match whole paths");
  });
  patterns_->exact.emplace(pattern, int(rules_.size()));
  patterns_->set.reset();
  rules_.push_back({std::move(pattern), std::move(layout), std::move(where)});
}

int LayoutMap::find(std::string_view path) const {
  if (rules_.empty()) return -1;
  if (const auto exact = patterns_->exact.find(std::string(path)); exact != patterns_->exact.end())
    return exact->second;
  if (!patterns_->set) {
    RE2::Options set_options = options();
    set_options.set_max_mem(kMatcherMemory * int64_t(1 + rules_.size() / 64));
    auto set = std::make_unique<RE2::Set>(set_options, RE2::ANCHOR_BOTH);
    for (const LayoutRule& rule : rules_) set->Add(rule.pattern, nullptr);
    check(set->Compile(), ErrorCode::plan,
          [&] { return str("the ", rules_.size(), " layout rules need too much memory together; simplify them"); });
    patterns_->set = std::move(set);
  }
  std::vector<int> matches;
  RE2::Set::ErrorInfo error{};
  patterns_->set->Match({path.data(), path.size()}, &matches, &error);
  check(error.kind == RE2::Set::kNoError, ErrorCode::plan,
        [&] { return str("matching '", path, "' against the layout rules needs too much memory; simplify them"); });
  if (matches.empty()) return -1;
  std::sort(matches.begin(), matches.end());
  check(matches.size() == 1, ErrorCode::plan, [&] {
    std::string text = str("variable ", path, " matches ", matches.size(), " layout rules:");
    for (const int match : matches) text += (match == matches[0] ? " " : ", ") + quoted(rules_[size_t(match)]);
    return text + "; make all but one narrower, or add a rule that is exactly the path";
  });
  return matches[0];
}

}  // namespace lockstep
