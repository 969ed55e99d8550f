// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan_json.h"

#include <algorithm>
#include <cstdio>
#include <limits>
#include <nlohmann/json.hpp>

#include "kernels/device/check.h"
#include "runtime/plan_check.h"

namespace lockstep {
namespace {

using Json = nlohmann::json;

constexpr int kFormat = 1;
constexpr int64_t kMostElements = int64_t(1) << 50;  // and bytes: what adds up to more is no plan
constexpr DType kDTypes[] = {DType::f32, DType::bf16, DType::f64, DType::i32, DType::i64};
constexpr Section kSections[] = {Section::trainable, Section::frozen, Section::slot, Section::local};
constexpr Residence kResidences[] = {Residence::each_rank, Residence::one_per_node, Residence::one_per_rank,
                                     Residence::split};
constexpr Phase kPhases[] = {Phase::micro_batch, Phase::step};
constexpr Copies kCopies[] = {Copies::per_node, Copies::per_rank};
constexpr ReduceMode kModes[] = {ReduceMode::tree, ReduceMode::fast, ReduceMode::mpi};

Json layout_json(const Layout& layout) {
  Json axes = Json::array();
  for (const std::string& axis : layout.axes) axes.push_back(axis.empty() ? Json() : Json(axis));
  return axes;
}

Json settings_json(const PlanSettings& s) {
  Json rules = Json::array();
  for (const LayoutRule& rule : s.layout_rules)
    rules.push_back({{"pattern", rule.pattern}, {"layout", layout_json(rule.layout)}, {"where", rule.where}});
  return {{"batch_axis", s.batch_axis},
          {"layout_rules", rules},
          {"optimizer", s.optimizer},
          {"reduce", to_string(s.reduce)},
          {"virtual_ranks", s.virtual_ranks},
          {"zero", s.zero},
          {"accumulation", s.accumulation},
          {"bucket_bytes", s.bucket_bytes},
          {"copies", to_string(s.copies)},
          {"ranks_per_node", s.ranks_per_node},
          {"replicate_indivisible", s.replicate_indivisible},
          {"batch", s.workload.batch},
          {"activation_bytes_per_sample", s.workload.activation_bytes_per_sample},
          {"model_parallel_bytes_per_sample", s.workload.model_parallel_bytes_per_sample},
          {"flops_per_sample", s.workload.flops_per_sample}};
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

// Reads one object: typed access, and messages that say where it is.
class Reader {
 public:
  Reader(const Json& json, std::string where) : json_(json), where_(std::move(where)) {
    if (!json.is_object()) wrong("an object", json);
  }

  Json::const_reference at(const char* key) const {
    const auto found = json_.find(key);
    check(found != json_.end(), ErrorCode::data,
          [&] { return str(where_, " has no '", key, "'; write the plan anew with lockstep plan --json"); });
    return *found;
  }
  std::string text(const char* key) const {
    const Json& value = at(key);
    if (!value.is_string()) wrong("a text", value, key);
    return value.get<std::string>();
  }
  bool flag(const char* key) const {
    const Json& value = at(key);
    if (!value.is_boolean()) wrong("true or false", value, key);
    return value.get<bool>();
  }
  double real(const char* key) const {
    const Json& value = at(key);
    if (!value.is_number()) wrong("a number", value, key);
    return value.get<double>();
  }
  int64_t number(const char* key, int64_t least, int64_t most = kMostElements) const {
    const Json& value = at(key);
    const bool too_large =
        value.is_number_unsigned() && value.get<uint64_t>() > uint64_t(std::numeric_limits<int64_t>::max());
    if (!value.is_number_integer() || too_large || value.get<int64_t>() < least || value.get<int64_t>() > most)
      wrong(str("a whole number from ", least, " to ", most), value, key);
    return value.get<int64_t>();
  }
  int32_t index(const char* key) const { return int32_t(number(key, -1, std::numeric_limits<int32_t>::max())); }
  template <class Enum, size_t N>
  Enum name(const char* key, const Enum (&values)[N]) const {
    const std::string given = text(key);
    std::string known;
    for (const Enum value : values) {
      if (to_string(value) == given) return value;
      known += str(known.empty() ? "" : ", ", to_string(value));
    }
    wrong("one of " + known, at(key), key);
  }
  // Calls `read` with a Reader for each object of a list.
  template <class Read>
  void each(const char* key, Read&& read) const {
    const Json& list = this->list(key);
    for (size_t i = 0; i < list.size(); ++i) read(Reader(list[i], str(where_, ".", key, "[", i, "]")));
  }
  const Json& list(const char* key) const {
    const Json& value = at(key);
    if (!value.is_array()) wrong("a list", value, key);
    return value;
  }
  const std::string& where() const { return where_; }

  [[noreturn]] void wrong(const std::string& expected, const Json& got, const char* key = nullptr) const {
    std::string shown =
        got.is_structured() ? std::string(got.type_name()) : got.dump(-1, ' ', true, Json::error_handler_t::replace);
    if (shown.size() > 60) shown = shown.substr(0, 60) + "...";
    fail(ErrorCode::data, str(where_, key ? "." : "", key ? key : "", ": expected ", expected, ", got ", shown));
  }

 private:
  const Json& json_;
  std::string where_;
};

Layout read_layout(const Reader& reader) {
  Layout layout;
  for (const Json& axis : reader.list("layout")) {
    if (!axis.is_null() && !axis.is_string()) reader.wrong("the name of an axis or null", axis, "layout");
    layout.axes.push_back(axis.is_null() ? std::string() : axis.get<std::string>());
  }
  return layout;
}

Shape read_shape(const Reader& reader) {
  std::vector<int64_t> sizes;
  int64_t elements = 1;
  for (const Json& size : reader.list("shape")) {
    if (!size.is_number_integer() || size.get<int64_t>() < 0 || size.get<int64_t>() > (int64_t(1) << 48))
      reader.wrong("a size from 0 to 2^48", size, "shape");
    sizes.push_back(size.get<int64_t>());
    if (sizes.size() > size_t(kMaxRank) || __builtin_mul_overflow(elements, sizes.back(), &elements) ||
        elements > (int64_t(1) << 48))
      reader.wrong(str("at most ", kMaxRank, " dimensions and 2^48 elements"), reader.at("shape"), "shape");
  }
  return Shape(std::span<const int64_t>(sizes));
}

PlanSettings read_settings(const Reader& root) {
  PlanSettings s;
  root.each("mesh", [&](const Reader& axis) {
    s.mesh.push_back({axis.text("axis"), int(axis.number("size", 1, 10'000'000))});
  });
  const Reader settings(root.at("settings"), root.where() + ".settings");
  LayoutMap rules;
  settings.each("layout_rules",
                [&](const Reader& rule) { rules.add(rule.text("pattern"), read_layout(rule), rule.text("where")); });
  // The same checks as for a mesh and rules that a user gives.
  const Distribution distribution = model_parallel(s.mesh, rules, settings.text("batch_axis"));
  s.batch_axis = distribution.batch_axis;
  s.layout_rules = distribution.layouts.rules();
  s.optimizer = settings.text("optimizer");
  s.reduce = settings.name("reduce", kModes);
  s.virtual_ranks = int(settings.number("virtual_ranks", 1, 10'000'000));
  s.zero = int(settings.number("zero", 0, 3));
  s.accumulation = settings.number("accumulation", 1, 1'000'000);
  s.bucket_bytes = settings.number("bucket_bytes", 0);
  s.copies = settings.name("copies", kCopies);
  s.ranks_per_node = settings.number("ranks_per_node", 0);
  s.replicate_indivisible = settings.flag("replicate_indivisible");
  s.workload = {settings.number("batch", 0), settings.number("activation_bytes_per_sample", 0),
                settings.number("model_parallel_bytes_per_sample", 0), settings.real("flops_per_sample")};
  return s;
}

// The rule of this version with that id: plans hold ids that live as long as the program.
std::string_view read_rule(const Reader& reason, Question question) {
  const std::string id = reason.text("rule");
  for (const Rule& rule : standard_rules())
    if (rule.id == id && rule.question == question) return rule.id;
  fail(ErrorCode::data, str(reason.where(), ": this version has no rule '", id, "' for ", to_string(question),
                            "; write the plan anew with lockstep plan --json"));
}

PlannedVariable read_variable(const Reader& r, size_t layout_rules) {
  PlannedVariable v;
  v.path = r.text("path");
  v.shape = read_shape(r);
  v.dtype = r.name("dtype", kDTypes);
  v.role = parse_role(r.text("role"));
  v.by_optimizer = r.flag("by_optimizer");
  v.layout = read_layout(r);
  v.layout_given = r.flag("layout_given");
  v.layout_rule = r.index("layout_rule");
  if (v.layout_rule >= int64_t(layout_rules))
    r.wrong("the number of a layout rule", r.at("layout_rule"), "layout_rule");
  v.on_tape = r.flag("on_tape");
  v.in_gradient_sync = r.flag("in_gradient_sync");
  v.aggregation = parse_aggregation(r.text("aggregation"));
  v.aggregation_given = r.flag("aggregation_given");
  v.residence = r.name("residence", kResidences);
  v.parameter = r.index("parameter");
  v.slot = r.index("slot");
  v.section = r.name("section", kSections);
  v.bucket = r.index("bucket");
  v.offset = r.number("offset", 0);
  v.local_elements = r.number("local_elements", 0);
  const Json& reasons = r.list("reason");
  if (reasons.size() != size_t(kQuestions)) r.wrong(str(kQuestions, " reasons"), reasons, "reason");
  for (int q = 0; q < kQuestions; ++q)
    v.rules[size_t(q)] = read_rule(Reader(reasons[size_t(q)], str(r.where(), ".reason[", q, "]")), Question(q));
  return v;
}

PlannedBucket read_bucket(const Reader& r) {
  PlannedBucket bucket{.begin = r.number("begin", 0),
                       .end = r.number("end", 0),
                       .dtype = r.name("dtype", kDTypes),
                       .split_by_batch = r.flag("split_by_batch"),
                       .variables = {}};
  for (const Json& member : r.list("variables")) {
    if (!member.is_number_integer() || member.get<int64_t>() < 0 || member.get<int64_t>() > (1 << 30))
      r.wrong("the number of a variable", member, "variables");
    bucket.variables.push_back(member.get<int32_t>());
  }
  return bucket;
}

RankClass read_class(const Reader& r) {
  const Reader memory(r.at("memory"), r.where() + ".memory");
  return {.ranks = r.number("ranks", 1),
          .first_rank = r.number("first_rank", 0),
          .node_copy = r.flag("node_copy"),
          .memory = {.parameters = memory.number("parameters", 0),
                     .slots = memory.number("slots", 0),
                     .gradients = memory.number("gradients", 0),
                     .scalars = memory.number("scalars", 0),
                     .gathered = memory.number("gathered", 0)}};
}

std::string hash_text(const Plan& plan) {
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(plan.hash()));
  return text;
}

std::vector<std::string> read_texts(const Reader& reader, const char* key) {
  std::vector<std::string> texts;
  for (const Json& text : reader.list(key)) {
    if (!text.is_string()) reader.wrong("a text", text, key);
    texts.push_back(text.get<std::string>());
  }
  return texts;
}

Plan read_plan(const Reader& root) {
  Plan plan;
  root.number("format", kFormat, kFormat);
  plan.settings = read_settings(root);
  root.each("variables",
            [&](const Reader& r) { plan.variables.push_back(read_variable(r, plan.settings.layout_rules.size())); });
  plan.pending = read_texts(root, "pending");
  root.each("buckets", [&](const Reader& r) { plan.buckets.push_back(read_bucket(r)); });
  root.each("collectives", [&](const Reader& r) {
    plan.collectives.push_back({r.text("kind"), r.name("dtype", kDTypes), r.text("group"), r.number("bytes", 0),
                                r.name("phase", kPhases), r.text("what")});
  });
  root.each("classes", [&](const Reader& r) { plan.classes.push_back(read_class(r)); });
  plan.arena_elements = root.number("arena_elements", 0);
  plan.frozen_bytes = root.number("frozen_bytes", 0);
  plan.local_bytes = root.number("local_bytes", 0);
  plan.slots = int32_t(root.number("slots", 0, 1000));
  plan.master_slot = root.index("master_slot");
  plan.activation_bytes = root.number("activation_bytes", 0);
  plan.warnings = read_texts(root, "warnings");
  return plan;
}

}  // namespace

std::string plan_to_json(const Plan& plan) {
  Json json;
  json["format"] = kFormat;
  json["hash"] = hash_text(plan);
  json["mesh"] = Json::array();
  for (const MeshAxis& axis : plan.settings.mesh) json["mesh"].push_back({{"axis", axis.name}, {"size", axis.size}});
  json["settings"] = settings_json(plan.settings);
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
    json["collectives"].push_back({{"kind", c.kind},
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
  return json.dump(2, ' ', false, Json::error_handler_t::replace);
}

Plan plan_from_json(std::string_view text, const std::string& where) {
  Json json;
  try {
    json = Json::parse(text);
  } catch (const Json::exception& error) {
    fail(ErrorCode::data, str(where, " is no JSON: ", error.what(), "; write the plan anew with lockstep plan --json"));
  }
  const Reader root(json, where);
  Plan plan = read_plan(root);
  check_plan(plan);
  check(root.text("hash") == hash_text(plan), ErrorCode::data, [&] {
    return str(where, ": the hash is ", root.text("hash"), ", but the content has ", hash_text(plan),
               "; the file was changed by hand or by another version: write the plan anew");
  });
  return plan;
}

}  // namespace lockstep
