// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan/plan_json.h"

#include <algorithm>
#include <cstdio>
#include <type_traits>

#include "runtime/files/json_reader.h"
#include "runtime/plan/buckets.h"
#include "runtime/plan/check/plan_check.h"
#include "runtime/plan/plan_warnings.h"

namespace lockstep {
namespace {

constexpr int kFormat = 1;
// No plan adds up to more; products with element sizes, slots and parts of the batch then fit 63 bits.
constexpr int64_t kMostElements = int64_t(1) << 48;
constexpr int64_t kMostSlots = 64;
constexpr int32_t kMostIndex = std::numeric_limits<int32_t>::max();
constexpr DType kDTypes[] = {DType::f32, DType::bf16, DType::f64, DType::i32, DType::i64, DType::f16};
constexpr Section kSections[] = {Section::trainable, Section::frozen, Section::slot, Section::local};

Json layout_json(const Layout& layout) {
  Json axes = Json::array();
  for (const std::string& axis : layout.axes) axes.push_back(axis.empty() ? Json() : Json(axis));
  return axes;
}

// Settings have their own object in the file, except for the mesh, which precedes it.
template <class Value>
void write(Json& root, const char* key, const Value& value) {
  if constexpr (std::is_enum_v<Value>)
    root["settings"][key] = to_string(value);
  else
    root["settings"][key] = value;
}
void write(Json& root, const char* key, const std::vector<MeshAxis>& mesh) {
  root[key] = Json::array();
  for (const MeshAxis& axis : mesh) root[key].push_back({{"axis", axis.name}, {"size", axis.size}});
}
void write(Json& root, const char* key, const std::vector<LayoutRule>& rules) {
  Json& list = root["settings"][key] = Json::array();
  for (const LayoutRule& rule : rules)
    list.push_back({{"pattern", rule.pattern}, {"layout", layout_json(rule.layout)}, {"where", rule.where}});
}

Json variable_json(const Plan& plan, const PlannedVariable& v) {
  const RuleSet& rules = standard_rules();
  const RuleCase rule_case{plan.settings, v, v.parameter < 0 ? nullptr : &plan.variables[size_t(v.parameter)]};
  Json reasons = Json::array();
  for (int q = 0; q < kQuestions; ++q) {
    const auto rule =
        std::find_if(rules.begin(), rules.end(), [&](const Rule& r) { return r.id == v.rules[size_t(q)]; });
    reasons.push_back({{"question", to_string(Question(q))},
                       {"rule", v.rules[size_t(q)]},
                       {"reason", rule == rules.end() ? std::string() : rule->reason(rule_case)}});
  }
  Json sizes = Json::array();
  for (const int64_t size : v.shape.sizes()) sizes.push_back(size);
  return {{"path", v.path},
          {"role", to_string(v.role)},
          {"shape", sizes},
          {"dtype", to_string(v.dtype)},
          {"owner", v.by_optimizer ? plan.settings.optimizer : "model"},
          {"by_optimizer", v.by_optimizer},
          {"layout", layout_json(v.layout)},
          {"layout_given", v.layout_given},
          {"layout_rule", v.layout_rule},
          {"on_tape", v.on_tape},
          {"in_gradient_sync", v.in_gradient_sync},
          {"aggregation", to_string(v.aggregation)},
          {"aggregation_given", v.aggregation_given},
          {"residence", to_string(v.residence)},
          {"parameter", v.parameter},
          {"slot", v.slot},
          {"section", to_string(v.section)},
          {"bucket", v.bucket},
          {"offset", v.offset},
          {"local_elements", v.local_elements},
          {"bytes_per_rank", bytes_per_rank(plan.settings, v)},
          {"reason", reasons}};
}

Json memory_json(const PlannedMemory& m) {
  return {{"parameters", m.parameters}, {"slots", m.slots},       {"gradients", m.gradients},
          {"scalars", m.scalars},       {"gathered", m.gathered}, {"total", m.total()}};
}

std::string hash_text(const Plan& plan) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(plan.hash()));
  return text;
}

Json json_of(const Plan& plan) {
  Json json;
  json["format"] = kFormat;
  json["hash"] = hash_text(plan);
  for_each_field(plan.settings, [&](const SettingField& field, const auto& value) { write(json, field.name, value); });
  json["variables"] = Json::array();
  for (const PlannedVariable& v : plan.variables) json["variables"].push_back(variable_json(plan, v));
  json["pending"] = plan.pending;
  json["buckets"] = Json::array();
  for (const PlannedBucket& b : plan.buckets)
    json["buckets"].push_back({{"begin", b.begin},
                               {"end", b.end},
                               {"dtype", to_string(b.dtype)},
                               {"split_by_batch", b.split_by_batch},
                               {"variables", b.variables}});
  json["collectives"] = Json::array();
  for (const PlannedCollective& c : plan.collectives)
    json["collectives"].push_back({{"kind", to_string(c.kind)},
                                   {"dtype", to_string(c.dtype)},
                                   {"group", c.group},
                                   {"bytes", c.bytes},
                                   {"phase", to_string(c.phase)},
                                   {"what", c.what}});
  json["classes"] = Json::array();
  for (const RankClass& c : plan.classes)
    json["classes"].push_back({{"ranks", c.ranks},
                               {"first_rank", c.first_rank},
                               {"node_copy", c.node_copy},
                               {"memory", memory_json(c.memory)}});
  json["memory"] = memory_json(plan.memory());
  json["arena_elements"] = plan.arena_elements;
  json["frozen_bytes"] = plan.frozen_bytes;
  json["local_bytes"] = plan.local_bytes;
  json["slots"] = plan.slots;
  json["master_slot"] = plan.master_slot;
  json["activation_bytes"] = plan.activation_bytes;
  json["warnings"] = plan.warnings;
  return json;
}

Layout read_layout(const JsonReader& reader) {
  Layout layout;
  for (const Json& axis : reader.list("layout")) {
    if (!axis.is_null() && !axis.is_string()) reader.wrong("the name of an axis or null", axis, "layout");
    layout.axes.push_back(axis.is_null() ? std::string() : axis.get<std::string>());
  }
  return layout;
}

Shape read_shape(const JsonReader& reader) {
  std::vector<int64_t> sizes;
  int64_t elements = 1;
  reader.each_number("shape", 0, kMostElements, [&](int64_t size) {
    sizes.push_back(size);
    if (sizes.size() > size_t(kMaxRank) || __builtin_mul_overflow(elements, size, &elements) ||
        elements > kMostElements)
      reader.wrong(str("at most ", kMaxRank, " dimensions and 2^48 elements"), reader.at("shape"), "shape");
  });
  return Shape(std::span<const int64_t>(sizes));
}

// Reads from the object of the settings, and from the one around it, which has the mesh.
struct SettingsReader {
  const JsonReader& root;
  const JsonReader& settings;

  void read(const SettingField& field, std::vector<MeshAxis>& mesh) const {
    root.each(field.name, [&](const JsonReader& axis) {
      mesh.push_back({axis.text("axis"), int(axis.number("size", 1, std::numeric_limits<int>::max()))});
    });
  }
  void read(const SettingField& field, std::vector<LayoutRule>& rules) const {
    settings.each(field.name, [&](const JsonReader& rule) {
      rules.push_back({rule.text("pattern"), read_layout(rule), rule.text("where")});
    });
  }
  void read(const SettingField& field, std::string& text) const { text = settings.text(field.name); }
  void read(const SettingField& field, bool& flag) const { flag = settings.flag(field.name); }
  void read(const SettingField& field, double& value) const { value = settings.real(field.name); }
  void read(const SettingField& field, int64_t& value) const {
    value = settings.number(field.name, field.least, field.most);
  }
  void read(const SettingField& field, int& value) const {
    const int64_t most = std::min<int64_t>(field.most, std::numeric_limits<int>::max());
    value = int(settings.number(field.name, field.least, most));
  }
  void read(const SettingField& field, ReduceMode& mode) const { mode = settings.name(field.name, kReduceModes); }
  void read(const SettingField& field, DType& dtype) const { dtype = settings.name(field.name, kStorageDTypes); }
  void read(const SettingField& field, Copies& copies) const { copies = settings.name(field.name, kCopies); }
};

PlanSettings read_settings(const JsonReader& root) {
  const JsonReader object(root.at("settings"), root.where() + ".settings");
  const SettingsReader reader{root, object};
  PlanSettings settings;
  for_each_field(settings, [&](const SettingField& field, auto& value) { reader.read(field, value); });
  return settings;
}

// Reads the declaration and the place in memory; the decisions follow from them.
PlannedVariable read_variable(const JsonReader& r, const Plan& plan, const Distribution& distribution) {
  PlannedVariable v;
  v.path = r.text("path");
  v.shape = read_shape(r);
  v.dtype = r.name("dtype", kDTypes);
  v.role = parse_role(r.text("role"));
  v.by_optimizer = r.flag("by_optimizer");
  v.layout_given = r.flag("layout_given");
  if (v.layout_given) v.layout = read_layout(r);
  v.aggregation_given = r.flag("aggregation_given");
  if (v.aggregation_given) v.aggregation = parse_aggregation(r.text("aggregation"));
  v.section = r.name("section", kSections);
  v.bucket = int32_t(r.number("bucket", -1, kMostIndex));
  v.offset = r.number("offset", 0, kMostElements * size_of(DType::f64));
  v.slot = int32_t(r.number("slot", -1, kMostSlots));
  v.parameter = int32_t(r.number("parameter", -1, kMostIndex));
  const bool is_slot = v.role == Role::slot;
  const auto before = int64_t(plan.variables.size());
  if (is_slot != (v.parameter >= 0) || v.parameter >= before ||
      (is_slot && plan.variables[size_t(v.parameter)].role != Role::parameter))
    r.wrong(is_slot ? "the number of a trainable parameter before this slot" : "-1, as this is no slot",
            r.at("parameter"), "parameter");
  v.layout_rule = is_slot ? -1 : distribution.layouts.find(v.path);
  return v;
}

// Decides as the planner does.
void decide(const Plan& plan, PlannedVariable& v, const std::string& where) {
  apply_rules(standard_rules(), plan.settings, v.parameter < 0 ? nullptr : &plan.variables[size_t(v.parameter)], v);
  const std::string problem = layout_problem(plan.settings, v.layout, v.shape);
  check(problem.empty(), ErrorCode::plan, [&] {
    return str(where, ": variable ", v.path, " of shape ", to_string(v.shape), " cannot have the layout ",
               to_string(v.layout), ": ", problem);
  });
  v.local_elements = v.shape.size();
  for (const std::string& axis : v.layout.axes)
    if (!axis.empty()) v.local_elements /= plan.settings.size(axis);
}

PlannedBucket read_bucket(const JsonReader& r, const PlanSettings& settings) {
  PlannedBucket bucket;
  bucket.split_by_batch = r.flag("split_by_batch");
  // Where buckets are gathered, the bound is on the whole, not on the part.
  const int64_t most = kMostElements / std::max<int64_t>(settings.parts(), settings.batch_ranks());
  bucket.begin = r.number("begin", 0, most);
  bucket.end = r.number("end", bucket.begin, most);
  bucket.dtype = r.name("dtype", kDTypes);
  r.each_number("variables", 0, kMostIndex, [&](int64_t member) { bucket.variables.push_back(int32_t(member)); });
  return bucket;
}

// Reads what the planner was given and how memory is laid out; the rest is computed as the planner does.
Plan read_plan(const JsonReader& root) {
  Plan plan;
  root.number("format", kFormat, kFormat);
  const PlanSettings settings = read_settings(root);
  // These checks are the same as for what a user asks.
  const Distribution distribution = distribution_of(settings);
  plan.settings = complete(settings, distribution);
  root.each("variables", [&](const JsonReader& r) {
    PlannedVariable variable = read_variable(r, plan, distribution);
    decide(plan, variable, r.where());
    plan.variables.push_back(std::move(variable));
  });
  for (const Json& path : root.list("pending")) {
    if (!path.is_string()) root.wrong("the path of a variable", path, "pending");
    plan.pending.push_back(path.get<std::string>());
  }
  root.each("buckets", [&](const JsonReader& r) { plan.buckets.push_back(read_bucket(r, plan.settings)); });
  plan.arena_elements = root.number("arena_elements", 0, kMostElements);
  plan.frozen_bytes = root.number("frozen_bytes", 0, kMostElements * size_of(DType::f64));
  plan.local_bytes = root.number("local_bytes", 0, kMostElements * size_of(DType::f64));
  plan.slots = int32_t(root.number("slots", 0, kMostSlots));
  plan.master_slot = int32_t(root.number("master_slot", -1, kMostSlots));
  derive_costs(plan);
  check_plan(plan);
  plan.warnings = plan_warnings(plan);
  return plan;
}

// Adds the file to the messages of callers that know only the plan.
Plan read_plan(const JsonReader& root, const std::string& where) {
  try {
    return read_plan(root);
  } catch (const Error& error) {
    if (std::string_view(error.what()).starts_with(where)) throw;
    fail(error.code(), str(where, ": ", error.what()));
  }
}

// The library takes memory also to free parsed values, where a lack of it would end the process. So all that reading
// can take is asked for first, where it is an exception.
void ask_for_memory(size_t bytes_of_text) {
  constexpr size_t kBytesPerByte = 24;  // of a growing list of values that are as short as they can be: "0,"
  void* volatile memory = ::operator new(bytes_of_text* kBytesPerByte);
  ::operator delete(memory);
}

}  // namespace

std::string plan_to_json(const Plan& plan) { return json_of(plan).dump(2, ' ', false, Json::error_handler_t::replace); }

Plan plan_from_json(std::string_view text, const std::string& where) {
  check(int64_t(text.size()) <= kLongestPlanText, ErrorCode::data, [&] {
    return str(where, " has ", text.size(), " bytes; a plan has at most ", kLongestPlanText,
               ": is this the right file?");
  });
  ask_for_memory(text.size());
  const Json json = parse_json(text, where);
  const JsonReader root(json, where);
  Plan plan = read_plan(root, where);
  Json written = json_of(plan);
  const std::string hash = root.text("hash");
  written["hash"] = hash;  // compared last: a difference in the content says more
  const std::string difference = first_difference(written, json, where);
  check(difference.empty() && hash == hash_text(plan), ErrorCode::data, [&] {
    return str(difference.empty() ? str(where, ".hash: expected ", hash_text(plan), ", got ", shown(hash)) : difference,
               "; the file was changed by hand or by another version: write the plan anew with lockstep plan --json");
  });
  return plan;
}

}  // namespace lockstep
