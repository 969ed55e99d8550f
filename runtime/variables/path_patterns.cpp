// SPDX-License-Identifier: Apache-2.0
#include "runtime/variables/path_patterns.h"

#include <re2/re2.h>
#include <re2/set.h>

#include <algorithm>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "kernels/device/check.h"

namespace lockstep {
namespace {

constexpr size_t kLongestPattern = 1000;  // characters
// At worst, RE2 takes time in proportion to the text times the instructions that can be active at one place of it:
// for patterns with a repetition these are all instructions, for others only those at that place.
constexpr int kMostInstructions = 500;                 // in a pattern with a repetition
constexpr int kMostRepeatingInstructions = 8000;       // in all of these together
constexpr int64_t kMostPlainInstructions = 1'000'000;  // in all others together
constexpr int64_t kPatternMemory = 1 << 20;            // bytes for one pattern; RE2 refuses those that need more
constexpr int64_t kBytesPerInstruction = 256;          // memory to match all patterns at once
constexpr size_t kMostNamed = 8;                       // rules in a message

RE2::Options options(int64_t memory) {
  RE2::Options options;
  options.set_log_errors(false);
  options.set_max_mem(memory);
  return options;
}

bool is_control(char c) { return uint8_t(c) < 0x20 || c == 0x7f; }

// Long patterns are shown by their beginning, without characters that move the cursor of a terminal.
std::string shown_pattern(std::string_view pattern) {
  std::string visible(pattern.substr(0, 80));
  std::replace_if(visible.begin(), visible.end(), is_control, '?');
  return pattern.size() <= 80 ? visible : visible + "...";
}

// Whether the pattern can match only itself.
bool is_literal(std::string_view pattern) { return pattern.find_first_of("\\.+*?()|[]{}^$") == pattern.npos; }
bool has_repetition(std::string_view pattern) { return pattern.find_first_of("*+?{") != pattern.npos; }

}  // namespace

struct PathPatterns::Compiled {
  std::unordered_map<std::string, int> exact;
  std::vector<int> regular;  // rules that are more than a path
  int64_t repeating_instructions = 0, plain_instructions = 0;
  std::mutex building;            // ranks that are threads may ask at once
  std::unique_ptr<RE2::Set> set;  // the regular ones, built when a path is first looked up

  void add_regular(std::string_view kind, int rule, std::string_view pattern, const std::string& at);
  const RE2::Set& matcher(std::string_view kind, const std::vector<Rule>& rules);
};

void PathPatterns::Compiled::add_regular(std::string_view kind, int rule, std::string_view pattern,
                                         const std::string& at) {
  const RE2 compiled({pattern.data(), pattern.size()}, options(kPatternMemory));
  check(compiled.ok(), ErrorCode::plan, [&] {
    return str(at, "'", shown_pattern(pattern), "' is no regular expression: ", shown_pattern(compiled.error()),
               "; patterns have RE2's syntax and match whole paths");
  });
  const int instructions = compiled.ProgramSize();
  const bool repeats = has_repetition(pattern);
  check(!repeats || instructions <= kMostInstructions, ErrorCode::plan, [&] {
    return str(at, "'", shown_pattern(pattern), "' would make matching slow: it takes ", instructions,
               " instructions, at most ", kMostInstructions, " are allowed; use shorter repetitions");
  });
  (repeats ? repeating_instructions : plain_instructions) += instructions;
  check(repeating_instructions <= kMostRepeatingInstructions && plain_instructions <= kMostPlainInstructions,
        ErrorCode::plan, [&] {
          return str(at, "the ", kind, "s up to '", shown_pattern(pattern),
                     "' would make matching slow together: they take ",
                     repeats ? repeating_instructions : plain_instructions, " instructions, at most ",
                     repeats ? kMostRepeatingInstructions : kMostPlainInstructions,
                     " are allowed; use fewer and simpler patterns");
        });
  regular.push_back(rule);
  set.reset();
}

const RE2::Set& PathPatterns::Compiled::matcher(std::string_view kind, const std::vector<Rule>& rules) {
  const std::lock_guard lock(building);
  if (set) return *set;
  const int64_t instructions = repeating_instructions + plain_instructions;
  auto all =
      std::make_unique<RE2::Set>(options(8 * kPatternMemory + kBytesPerInstruction * instructions), RE2::ANCHOR_BOTH);
  for (const int rule : regular) all->Add(rules[size_t(rule)].pattern, nullptr);
  check(all->Compile(), ErrorCode::plan,
        [&] { return str("the ", rules.size(), " ", kind, "s need too much memory together; simplify them"); });
  set = std::move(all);
  return *set;
}

PathPatterns::PathPatterns(std::string_view kind) : kind_(kind), compiled_(std::make_unique<Compiled>()) {}
PathPatterns::~PathPatterns() = default;
PathPatterns::PathPatterns(PathPatterns&&) noexcept = default;
PathPatterns& PathPatterns::operator=(PathPatterns&&) noexcept = default;

PathPatterns::PathPatterns(const PathPatterns& other) : PathPatterns(other.kind_) {
  for (const Rule& rule : other.rules_) add(rule.pattern, rule.where);
}
PathPatterns& PathPatterns::operator=(const PathPatterns& other) {
  if (this != &other) *this = PathPatterns(other);
  return *this;
}

std::string PathPatterns::quoted(const Rule& rule) const {
  return str("'", rule.pattern, "'", rule.where.empty() ? std::string() : " (" + rule.where + ")");
}

void PathPatterns::add(std::string pattern, std::string where) {
  const auto at = [&] { return where.empty() ? std::string() : where + ": "; };
  check(!pattern.empty(), ErrorCode::plan,
        [&] { return str(at(), "a ", kind_, " needs a pattern, such as '.*/weight'; got an empty one"); });
  check(pattern.size() <= kLongestPattern, ErrorCode::plan, [&] {
    return str(at(), "the pattern '", shown_pattern(pattern), "' has ", pattern.size(), " characters; at most ",
               kLongestPattern, " are allowed");
  });
  check(std::none_of(pattern.begin(), pattern.end(), is_control), ErrorCode::plan, [&] {
    return str(at(), "the pattern '", shown_pattern(pattern),
               "' has a control character; write \\t and the like as escapes");
  });
  const auto known = compiled_->exact.find(pattern);
  check(known == compiled_->exact.end(), ErrorCode::plan, [&] {
    return str(at(), "there are two ", kind_, "s for '", shown_pattern(pattern), "'; keep one (the first is ",
               quoted(rules_[size_t(known->second)]), ")");
  });
  if (!is_literal(pattern)) compiled_->add_regular(kind_, int(rules_.size()), pattern, at());
  compiled_->exact.emplace(pattern, int(rules_.size()));
  rules_.push_back({std::move(pattern), std::move(where)});
}

int PathPatterns::find(std::string_view path) const {
  if (rules_.empty()) return -1;
  if (const auto exact = compiled_->exact.find(std::string(path)); exact != compiled_->exact.end())
    return exact->second;
  if (compiled_->regular.empty()) return -1;
  std::vector<int> matches;
  RE2::Set::ErrorInfo error{};
  compiled_->matcher(kind_, rules_).Match({path.data(), path.size()}, &matches, &error);
  check(error.kind == RE2::Set::kNoError, ErrorCode::plan,
        [&] { return str("matching '", path, "' against the ", kind_, "s needs too much memory; simplify them"); });
  if (matches.empty()) return -1;
  for (int& match : matches) match = compiled_->regular[size_t(match)];
  std::sort(matches.begin(), matches.end());
  check(matches.size() == 1, ErrorCode::plan, [&] {
    std::string text = str("variable ", path, " matches ", matches.size(), " ", kind_, "s:");
    const size_t named = std::min(matches.size(), kMostNamed);
    for (size_t i = 0; i < named; ++i) text += (i ? ", " : " ") + quoted(rules_[size_t(matches[i])]);
    if (named < matches.size()) text += str(" and ", matches.size() - named, " more");
    return text + "; make all but one narrower, or add a rule that is exactly the path";
  });
  return matches[0];
}

}  // namespace lockstep
