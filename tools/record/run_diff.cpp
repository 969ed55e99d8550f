// SPDX-License-Identifier: Apache-2.0
#include "tools/record/run_diff.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "runtime/checkpoint/checkpoint_folder.h"
#include "runtime/files/json_reader.h"
#include "runtime/state/element_text.h"
#include "tools/checkpoint/inspect.h"
#include "tools/record/run_files.h"

namespace lockstep {
namespace {

constexpr size_t kMostNamed = 4;  // of what differs, before it is only counted

// "a, b and 3 more".
std::string named(const std::vector<std::string>& names) {
  std::string text;
  for (size_t i = 0; i < std::min(names.size(), kMostNamed); ++i) text += (i == 0 ? "" : ", ") + names[i];
  if (names.size() > kMostNamed) text += str(" and ", names.size() - kMostNamed, " more");
  return text;
}

// What two lines of one step differ in, as indented lines, and what that says of the step; both empty for none.
struct StepDifference {
  std::string lines, origin;
};
using CompareLines = std::function<StepDifference(const std::string& a, const std::string& b)>;

struct FileDifference {
  std::string text;
  std::optional<int64_t> step;  // the first that differs
  std::string origin;
};

// Walks through the steps that both files have.
FileDifference compare_files(std::string_view kind, const std::string& a, const std::string& b,
                             const CompareLines& compare) {
  StepLines left(a), right(b);
  int64_t same = 0, last = -1;
  bool more_left = left.next(), more_right = right.next();
  while (more_left && more_right) {
    if (left.step() != right.step()) {
      (left.step() < right.step() ? more_left : more_right) = (left.step() < right.step() ? left : right).next();
      continue;
    }
    const StepDifference found = compare(left.text(), right.text());
    const std::string before = same == 0 ? "" : fmt::format("the same in {} steps up to step {}; ", same, last);
    if (!found.lines.empty())
      return {fmt::format("{}: {}step {} differs\n{}", kind, before, left.step(), found.lines), left.step(),
              found.origin};
    ++same;
    last = left.step();
    more_left = left.next();
    more_right = right.next();
  }
  check(same > 0, ErrorCode::data, [&] { return str("'", a, "' and '", b, "' have no step in common"); });
  return {fmt::format("{}: the same in {} steps up to step {}{}\n", kind, same, last,
                      more_left == more_right ? "" : fmt::format("; {} goes on", more_left ? a : b)),
          std::nullopt, ""};
}

std::map<std::string, std::string> fields_of(const std::string& line) {
  std::map<std::string, std::string> fields;
  for (size_t begin = 0; begin < line.size();) {
    const size_t end = std::min(line.find(' ', begin), line.size()), sign = line.find('=', begin);
    if (sign < end) fields[line.substr(begin, sign - begin)] = line.substr(sign + 1, end - sign - 1);
    begin = end + 1;
  }
  return fields;
}

StepDifference compare_ledger_lines(const std::string& a, const std::string& b) {
  StepDifference difference;
  auto left = fields_of(a), right = fields_of(b);
  for (const char* name : {"data", "loss", "parameters", "slots", "scalars"}) {
    if (left[name] == right[name]) continue;
    difference.lines += fmt::format("  {}: {} and {}\n", name, left[name], right[name]);
    if (!difference.origin.empty()) continue;
    const std::string_view what = name;
    difference.origin = what == "data"   ? "the samples of its batch are others"
                        : what == "loss" ? "weights that it has read, or its forward pass"
                                         : "its backward pass, the sum of gradients, or the update";
  }
  return difference;
}

StepDifference compare_metrics_lines(const std::string& a, const std::string& b) {
  StepDifference difference;
  const Json left = parse_json(a, "a line of metrics"), right = parse_json(b, "a line of metrics");
  for (const char* name : {"loss", "learning_rate", "skipped"}) {
    const Json one = left.value(name, Json()), other = right.value(name, Json());
    if (one == other) continue;
    const auto text = [](const Json& value) {
      return value.is_number() ? hex_float(value.get<double>()) : value.is_null() ? std::string("none") : value.dump();
    };
    difference.lines += fmt::format("  {}: {} and {}\n", name, text(one), text(other));
    difference.origin = "it has come to something else";
  }
  return difference;
}

// One part of the batch of a step, as a record has it.
struct RecordedPart {
  int64_t rank = 0;
  std::string samples, loss;
  std::vector<std::string> gradients;
};

std::map<int64_t, RecordedPart> parts_of(const JsonReader& step) {
  std::map<int64_t, RecordedPart> parts;
  step.each("parts", [&](const JsonReader& part) {
    RecordedPart& one = parts[part.number("part", 0, INT32_MAX)];
    one.rank = part.number("rank", 0, INT32_MAX);
    one.samples = part.list("samples").dump();
    one.loss = part.text("loss");
    for (const Json& hash : part.list("gradients")) one.gradients.push_back(hash.get<std::string>());
  });
  return parts;
}

std::vector<std::string> strings_of(const JsonReader& json, const char* key) {
  std::vector<std::string> strings;
  for (const Json& each : json.list(key)) {
    if (!each.is_string()) json.wrong("texts", each, key);
    strings.push_back(each.get<std::string>());
  }
  return strings;
}

// The names for which two lists of hashes differ, the last first: backward passes come to the last variables first.
std::vector<std::string> differing(const std::vector<std::string>& names, const std::vector<std::string>& a,
                                   const std::vector<std::string>& b) {
  check(a.size() == names.size() && b.size() == names.size(), ErrorCode::data, [&] {
    return str("a record names ", names.size(), " variables, but has ", a.size(), " and ", b.size(), " hashes");
  });
  std::vector<std::string> found;
  for (size_t i = names.size(); i-- > 0;)
    if (a[i] != b[i]) found.push_back(names[i]);
  return found;
}

class RecordComparison {
 public:
  explicit RecordComparison(const std::string& path) {
    const Json header = parse_json(first_line_of(path), "'" + path + "'");
    const JsonReader reader(header, "'" + path + "'");
    trained_ = strings_of(reader, "trained");
    variables_ = strings_of(reader, "variables");
  }

  StepDifference operator()(const std::string& a, const std::string& b) const {
    const Json one = parse_json(a, "a line of a record"), other = parse_json(b, "a line of a record");
    const JsonReader left(one, "step"), right(other, "step");
    StepDifference difference;
    const auto origin = [&](const std::string& text) {
      if (difference.origin.empty()) difference.origin = text;
    };
    if (left.text("data") != right.text("data")) {
      difference.lines += "  the batch: other samples\n";
      origin("the samples of its batch are others");
    }
    compare_parts(parts_of(left), parts_of(right), difference);
    std::vector<std::string> state = differing(variables_, strings_of(left, "state"), strings_of(right, "state"));
    if (!state.empty()) {
      std::ranges::reverse(state);
      difference.lines +=
          fmt::format("  after it {} of {} variables differ: {}\n", state.size(), variables_.size(), named(state));
      origin(fmt::format("all parts came to the same, so the sum of their gradients or the update: {}", named(state)));
    }
    return difference;
  }

 private:
  void compare_parts(const std::map<int64_t, RecordedPart>& left, const std::map<int64_t, RecordedPart>& right,
                     StepDifference& difference) const {
    if (left.size() != right.size()) {
      difference.lines += fmt::format("  the batch: cut into {} and {} parts\n", left.size(), right.size());
      difference.origin = "its batch was cut otherwise (--virtual-ranks)";
      return;
    }
    size_t count = 0;
    for (const auto& [number, one] : left) {
      const auto other = right.find(number);
      if (other == right.end()) continue;
      const std::vector<std::string> gradients = differing(trained_, one.gradients, other->second.gradients);
      const bool loss = one.loss != other->second.loss;
      if (!loss && gradients.empty()) continue;
      const std::string part =
          fmt::format("part {} of its batch, by rank {} and rank {}", number, one.rank, other->second.rank);
      if (difference.origin.empty())
        difference.origin = loss ? fmt::format("weights that it has read, or the forward pass of {}", part)
                                 : fmt::format("the backward pass of {}, at {}", part, gradients.front());
      if (count++ >= kMostNamed) continue;
      difference.lines += fmt::format("  {}, samples {}:\n", part, one.samples);
      if (loss) difference.lines += fmt::format("    loss: {} and {}\n", one.loss, other->second.loss);
      if (!gradients.empty())
        difference.lines += fmt::format("    gradients of {} of {} variables: {}\n", gradients.size(), trained_.size(),
                                        named(gradients));
    }
    if (count > kMostNamed) difference.lines += fmt::format("  and {} more parts\n", count - kMostNamed);
  }

  std::vector<std::string> trained_, variables_;
};

// The first checkpoint of a step that both have in which they differ, with elements and values.
FileDifference compare_checkpoints(const RunFiles& a, const RunFiles& b) {
  int64_t same = 0, last = -1;
  for (const int64_t step : a.checkpoints) {
    if (std::ranges::find(b.checkpoints, step) == b.checkpoints.end()) continue;
    const std::string text =
        differences_of(in_folder(a.folder, checkpoint_name(step)), in_folder(b.folder, checkpoint_name(step)));
    if (text.empty()) {
      ++same;
      last = step;
      continue;
    }
    std::string lines;
    size_t count = 0;
    for (size_t begin = 0; begin < text.size(); ++count) {
      const size_t end = text.find('\n', begin);
      if (count < 2 * kMostNamed) lines += "  " + text.substr(begin, end - begin) + "\n";
      begin = end + 1;
    }
    if (count > 2 * kMostNamed) lines += fmt::format("  and {} more\n", count - 2 * kMostNamed);
    return {fmt::format("checkpoints: {}the one after {} steps differs\n{}",
                        same == 0 ? "" : fmt::format("the same up to the one after {} steps; ", last), step, lines),
            step - 1, ""};
  }
  if (same == 0) return {"checkpoints: none of an equal number of steps\n", std::nullopt, ""};
  return {fmt::format("checkpoints: the same in {}, up to the one after {} steps\n", same, last), std::nullopt, ""};
}

std::string headers_text(const std::string& a, const std::string& b) {
  const std::string left = first_line_of(a), right = first_line_of(b);
  if (left == right) return "";
  return fmt::format("the runs did not have to be equal:\n  {}\n  {}\n", left, right);
}

}  // namespace

RunDifference difference_of_runs(const std::string& a, const std::string& b) {
  const RunFiles left = find_run(a), right = find_run(b);
  std::vector<FileDifference> all;
  std::string head;
  // The most telling ones come first.
  if (!left.record.empty() && !right.record.empty()) {
    check(first_line_of(left.record) == first_line_of(right.record), ErrorCode::data, [&] {
      return str("'", left.record, "' and '", right.record, "' are records of other models: their variables differ");
    });
    all.push_back(compare_files("records", left.record, right.record, RecordComparison(left.record)));
  }
  if (!left.ledger.empty() && !right.ledger.empty()) {
    head = headers_text(left.ledger, right.ledger);
    all.push_back(compare_files("ledgers", left.ledger, right.ledger, compare_ledger_lines));
  }
  if (!left.metrics.empty() && !right.metrics.empty())
    all.push_back(compare_files("metrics", left.metrics, right.metrics, compare_metrics_lines));
  if (!left.checkpoints.empty() && !right.checkpoints.empty()) all.push_back(compare_checkpoints(left, right));
  check(!all.empty(), ErrorCode::data, [&] {
    return str("'", a, "' and '", b, "' have left nothing of one kind; name two ledgers, metrics, records or folders");
  });
  std::string text;
  const FileDifference* first = nullptr;
  for (const FileDifference& each : all) {
    text += each.text;
    if (each.step && (first == nullptr || *each.step < *first->step)) first = &each;
  }
  if (first == nullptr) return {false, head + text};
  std::string verdict = fmt::format("{} and {} differ first in step {}{}\n", a, b, *first->step,
                                    first->origin.empty() ? "" : ": " + first->origin);
  return {true, verdict + head + text};
}

}  // namespace lockstep
