// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan/plan_text.h"

#include <algorithm>
#include <cstdio>
#include <map>
#include <set>

#include "kernels/device/check.h"
#include "runtime/plan/table_rows.h"

namespace lockstep {
namespace {

std::string pad(std::string text, size_t width) {
  if (text.size() < width) text.append(width - text.size(), ' ');
  return text + "  ";
}

std::string shown_layout(const PlannedVariable& v) {
  return to_string(v.layout) + (v.layout.is_replicated() ? " replicated" : " sharded");
}

std::string answer(const PlannedVariable& v, Question question) {
  switch (question) {
    case Question::layout:
      return shown_layout(v);
    case Question::tape:
      return v.on_tape ? "yes" : "no";
    case Question::gradient_sync:
      return v.in_gradient_sync ? "yes" : "no";
    case Question::aggregation:
      return std::string(to_string(v.aggregation));
    case Question::residence:
      return std::string(to_string(v.residence));
  }
  return "";
}

RuleCase case_of(const Plan& plan, const PlannedVariable& v) {
  return {plan.settings, v, v.parameter < 0 ? nullptr : &plan.variables[size_t(v.parameter)]};
}

const Rule& rule_called(const RuleSet& rules, std::string_view id, const PlannedVariable& v) {
  const auto found = std::find_if(rules.begin(), rules.end(), [&](const Rule& rule) { return rule.id == id; });
  check(found != rules.end(), ErrorCode::plan,
        [&] { return str("variable ", v.path, " was planned by rule '", id, "', which this version does not have"); });
  return *found;
}

// What a rank pays for the variable, in memory and on the wire.
std::string cost(const Plan& plan, const PlannedVariable& v) {
  std::string text = str(v.local_bytes(), " B");
  switch (v.residence) {
    case Residence::each_rank:
    case Residence::one_per_rank:
      text += " in each rank";
      break;
    case Residence::one_per_node:
      text += " per node";
      break;
    case Residence::split:
      text += str(" over ", plan.settings.batch_ranks(), " ranks");
      break;
  }
  if (!v.in_gradient_sync) return text + ", nothing on the wire in a step";
  return text +
         str(", gradient of ", v.local_elements * size_of(DType::f32), " B summed every step in bucket ", v.bucket);
}

}  // namespace

std::string readable_bytes(int64_t bytes) {
  if (bytes < 10'000) return str(bytes, " B");
  const char* unit = "KiB";
  double value = double(bytes) / 1024;
  for (const char* next : {"MiB", "GiB", "TiB"}) {
    if (value < 1000) break;
    value /= 1024;
    unit = next;
  }
  char text[32];
  std::snprintf(text, sizeof text, "%.1f %s", value, unit);
  return text;
}

std::string plan_table(const Plan& plan, Rows shown) {
  std::vector<TableRow> rows;
  rows.reserve(plan.variables.size());
  for (const PlannedVariable& v : plan.variables) {
    const int64_t bytes = bytes_per_rank(plan.settings, v);
    const std::string before = pad(std::string(to_string(v.role)), 16) + pad(to_string(v.shape), 18) +
                               pad(std::string(to_string(v.dtype)), 5) + pad(to_string(v.layout), 14);
    const std::string after = pad(v.on_tape ? "yes" : "no", 4) + pad(v.in_gradient_sync ? "yes" : "no", 4) +
                              pad(std::string(to_string(v.aggregation)), 18) +
                              pad(std::string(to_string(v.residence)), 12) +
                              (v.by_optimizer ? plan.settings.optimizer : "model");
    const std::string shown_bytes = shown == Rows::folded ? readable_bytes(bytes) : str(bytes);
    rows.push_back({v.path, str(before, bytes, " ", after), before + pad(shown_bytes, 13) + after});
  }
  if (shown == Rows::folded) rows = fold_rows(std::move(rows));
  size_t widest = 8;
  for (const TableRow& row : rows) widest = std::max(widest, row.name.size());
  widest = std::min<size_t>(widest, 60);
  const std::string bytes = shown == Rows::folded ? "bytes of each" : "bytes";
  std::string text = pad("variable", widest) + pad("role", 16) + pad("shape", 18) + pad("dtype", 5) +
                     pad("layout", 14) + pad(bytes, 13) + pad("tape", 4) + pad("sync", 4) + pad("aggregation", 18) +
                     pad("residence", 12) + "owner\n";
  for (const TableRow& row : rows) text += pad(row.name, widest) + row.text + "\n";
  return text;
}

std::string explain(const Plan& plan, std::string_view path, const RuleSet& rules) {
  const PlannedVariable& v = plan.at(path);
  const RuleCase rule_case = case_of(plan, v);
  std::string text =
      str(v.path, "   ", to_string(v.dtype), " ", to_string(v.shape), "   role ", to_string(v.role), "\n");
  for (int q = 0; q < kQuestions; ++q) {
    const Rule& fired = rule_called(rules, v.rules[size_t(q)], v);
    text += "  " + pad(std::string(to_string(Question(q))), 13) + pad(answer(v, Question(q)), 20) + "rule " +
            std::string(fired.id) + ": " + fired.reason(rule_case) + "\n";
    for (const Rule& other : rules)
      if (other.question == Question(q) && other.id != fired.id)
        text += str("                   not ", other.answer, " (", other.id, "): ", other.rejection(rule_case), "\n");
  }
  return text + "  " + pad("cost", 13) + cost(plan, v) + "\n";
}

std::string explain_why_not(const Plan& plan, std::string_view path, std::string_view wanted, const RuleSet& rules) {
  const PlannedVariable& v = plan.at(path);
  const RuleCase rule_case = case_of(plan, v);
  std::string known;
  for (const Rule& rule : rules) {
    known += str(known.empty() ? "" : ", ", "'", rule.answer, "'");
    if (rule.answer != wanted && rule.id != wanted) continue;
    const std::string_view fired = v.rules[size_t(rule.question)];
    if (rule.id == fired)
      return str(v.path, ": ", to_string(rule.question), " is ", answer(v, rule.question), ", rule ", rule.id, ": ",
                 rule.reason(rule_case), "\n");
    const Rule& instead = rule_called(rules, fired, v);
    return str(v.path, ": ", to_string(rule.question), " is not ", rule.answer, " (rule ", rule.id,
               "): ", rule.rejection(rule_case), "\n  instead it is ", answer(v, rule.question), " by rule ", fired,
               ": ", instead.reason(rule_case), "\n");
  }
  fail(ErrorCode::usage, str("--why-not: no rule decides '", wanted, "'; one can ask for ", known));
}

namespace {

void line(std::string& text, const std::string& what, const std::string& a, const std::string& b) {
  if (a != b) text += what + ": " + a + " -> " + b + "\n";
}

std::string described(const PlannedVariable& v) {
  return str(to_string(v.role), " ", to_string(v.dtype), " ", to_string(v.shape), " ", to_string(v.layout),
             v.on_tape ? ", on tape" : "", v.in_gradient_sync ? str(", bucket ", v.bucket) : std::string(), ", ",
             to_string(v.aggregation), ", ", to_string(v.residence), ", at ", v.offset, " of ", to_string(v.section));
}

std::string described(const PlannedCollective& c) {
  return str(to_string(c.kind), " ", to_string(c.dtype), " over ", c.group, ", ", c.bytes, " B, each ",
             to_string(c.phase), ": ", c.what);
}

std::string described(const PlannedBucket& b) {
  return str("[", b.begin, ", ", b.end, ") ", to_string(b.dtype), ", ", b.variables.size(), " variables");
}

template <class T>
void compare_lists(std::string& text, std::string_view what, const std::vector<T>& a, const std::vector<T>& b) {
  for (size_t i = 0; i < std::max(a.size(), b.size()); ++i)
    line(text, str(what, " ", i), i < a.size() ? described(a[i]) : "none", i < b.size() ? described(b[i]) : "none");
}

void compare_settings(std::string& text, const PlanSettings& a, const PlanSettings& b) {
  const std::vector<SettingText> before = setting_texts(a), after = setting_texts(b);
  for (size_t i = 0; i < before.size(); ++i) {
    std::string name = before[i].field.name;
    std::ranges::replace(name, '_', ' ');
    line(text, name, before[i].value, after[i].value);
  }
}

void compare_memory(std::string& text, const Plan& a, const Plan& b) {
  const auto compare = [&](const char* what, int64_t PlannedMemory::*bytes) {
    line(text, str("memory of the most loaded rank, ", what), str(a.memory().*bytes, " B"),
         str(b.memory().*bytes, " B"));
  };
  compare("parameters", &PlannedMemory::parameters);
  compare("slots", &PlannedMemory::slots);
  compare("gradients", &PlannedMemory::gradients);
  compare("scalars", &PlannedMemory::scalars);
  compare("gathered", &PlannedMemory::gathered);
}

}  // namespace

std::string plan_difference(const Plan& a, const Plan& b) {
  std::string text;
  compare_settings(text, a.settings, b.settings);
  std::map<std::string_view, const PlannedVariable*> before;
  std::set<std::string_view> after;
  for (const PlannedVariable& v : a.variables) before[v.path] = &v;
  for (const PlannedVariable& v : b.variables) {
    after.insert(v.path);
    const auto found = before.find(v.path);
    line(text, v.path, found == before.end() ? "not there" : described(*found->second), described(v));
  }
  for (const PlannedVariable& v : a.variables)
    if (!after.contains(v.path)) line(text, v.path, described(v), "not there");
  compare_lists(text, "bucket", a.buckets, b.buckets);
  compare_lists(text, "collective", a.collectives, b.collectives);
  compare_memory(text, a, b);
  return text;
}

}  // namespace lockstep
