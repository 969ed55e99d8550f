// SPDX-License-Identifier: Apache-2.0
#include "tools/planning/model_file.h"

#include <algorithm>
#include <array>
#include <functional>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "kernels/device/known_name.h"
#include "kernels/device/printable.h"
#include "tools/planning/toml_file.h"
#include "tools/planning/toml_text.h"

namespace lockstep {
namespace {

constexpr int64_t kMostVariables = 200'000;
constexpr size_t kLongestPath = 200;  // bytes
constexpr int64_t kMostElements = int64_t(1) << 48;
constexpr int64_t kMostBytes = int64_t(1) << 60;  // bytes of activations of a whole step
constexpr std::array kDTypes = {DType::f32, DType::bf16, DType::f64, DType::i32, DType::i64, DType::f16};

std::string_view kind_of(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "a list";
    case toml::node_type::string:
      return "a text";
    case toml::node_type::integer:
      return "a whole number";
    case toml::node_type::floating_point:
      return "a number with a fraction";
    case toml::node_type::boolean:
      return "true or false";
    default:
      return "a date or time";
  }
}

std::string value_of(const toml::node& node) {
  if (const auto text = node.value_exact<std::string>()) return "the text " + shown(*text);
  if (const auto number = node.value_exact<int64_t>()) return str(*number);
  if (const auto number = node.value_exact<double>()) return str(*number);
  return std::string(kind_of(node));
}

// One table of a file: typed access, and messages that say where it is.
class Table {
 public:
  Table(const toml::table& table, std::string what, const std::string& file)
      : table_(table), what_(std::move(what)), file_(file) {}

  [[noreturn]] void wrong(const toml::node& at, const std::string& problem, ErrorCode code = ErrorCode::data) const {
    fail(code, str(place(at), ": ", what_, what_.empty() ? "" : ": ", problem));
  }
  [[noreturn]] void wrong_value(std::string_view key, const std::string& expected, const toml::node& got) const {
    wrong(got, str(key, ": expected ", expected, ", got ", value_of(got)));
  }
  std::string place(const toml::node& at) const { return str(file_, ":", at.source().begin.line); }
  const toml::node& node() const { return table_; }
  const toml::table& table() const { return table_; }
  const std::string& file() const { return file_; }
  void call(std::string what) { what_ = std::move(what); }

  void allow_only(std::span<const std::string_view> known) const {
    for (const auto& [key, value] : table_) {
      if (std::ranges::find(known, key.str()) != known.end()) continue;
      fail(ErrorCode::data,
           str(file_, ":", key.source().begin.line, ": ", what_, what_.empty() ? "" : ": ", "unknown key ",
               shown(key.str()), "; ", did_you_mean(key.str().substr(0, 80), known), " ", list_of(known)));
    }
  }
  const toml::node* find(std::string_view key) const { return table_.get(key); }
  const toml::node& at(std::string_view key, std::string_view example) const {
    const toml::node* found = find(key);
    if (!found) wrong(table_, str("'", key, "' is missing; add it, such as ", example));
    return *found;
  }
  std::string text(std::string_view key, std::string_view example) const {
    const toml::node& value = at(key, example);
    if (!value.is_string()) wrong_value(key, "a text", value);
    return *value.value_exact<std::string>();
  }
  int64_t number(std::string_view key, int64_t least, int64_t most, int64_t otherwise) const {
    const toml::node* value = find(key);
    return value ? number(key, *value, least, most) : otherwise;
  }
  int64_t number(std::string_view key, const toml::node& value, int64_t least, int64_t most) const {
    const auto number = value.value_exact<int64_t>();
    if (!number || *number < least || *number > most)
      wrong_value(key, str("a whole number from ", least, " to ", most), value);
    return *number;
  }
  const toml::array& list(std::string_view key, const toml::node& value, const std::string& expected) const {
    if (!value.is_array()) wrong_value(key, expected, value);
    return *value.as_array();
  }
  Table table(std::string_view key) const {
    const toml::node& value = *find(key);
    if (!value.is_table()) wrong_value(key, str("a table [", key, "]"), value);
    return Table(*value.as_table(), str("[", key, "]"), file_);
  }

 private:
  const toml::table& table_;
  std::string what_;
  const std::string& file_;
};

Layout read_layout(const Table& table, std::string_view key, const toml::node& value) {
  const std::string expected = str("a list with an axis of the mesh, or \"-\", for each of at most ", kMaxRank,
                                   " dimensions, such as [\"-\", \"model\"]");
  const toml::array& axes = table.list(key, value, expected);
  if (axes.size() > size_t(kMaxRank)) table.wrong(axes, str(key, ": expected ", expected, ", got ", axes.size()));
  Layout layout;
  for (const toml::node& axis : axes) {
    const auto name = axis.value_exact<std::string>();
    if (!name || name->empty()) table.wrong_value(key, expected, axis);
    if (*name != "-" && std::ranges::find(layout.axes, *name) != layout.axes.end())
      table.wrong(axis, str(key, ": the axis ", shown(*name), " splits two dimensions; it can split one"));
    layout.axes.push_back(*name == "-" ? std::string() : *name);
  }
  return layout;
}

LayoutMap read_layouts(const Table& table) {
  // toml++ sorts keys; rules keep the order of the file.
  std::vector<std::pair<const toml::key*, const toml::node*>> rules;
  for (const auto& [key, value] : table.table()) rules.emplace_back(&key, &value);
  const auto place = [](const auto& rule) {
    const toml::source_position& begin = rule.first->source().begin;
    return std::pair(begin.line, begin.column);
  };
  std::ranges::sort(rules, {}, place);
  LayoutMap layouts;
  for (const auto& [key, value] : rules) {
    if (value->is_table())
      table.wrong(*value, str("expected a rule like \".*/weight\" = [\"-\", \"model\"], got the table ",
                              shown(key->str()), "; put the pattern in quotes"));
    layouts.add(std::string(key->str()), read_layout(table, "rule " + shown(key->str()), *value),
                str(table.file(), ":", key->source().begin.line));
  }
  return layouts;
}

Workload read_workload(const Table& table) {
  static constexpr std::string_view known[] = {"batch", "activation_bytes_per_sample",
                                               "model_parallel_bytes_per_sample", "flops_per_sample"};
  table.allow_only(known);
  Workload workload;
  workload.batch = table.number(known[0], 1, int64_t(1) << 32, 0);
  const int64_t most = kMostBytes / std::max<int64_t>(1, workload.batch);  // so that their product also is
  workload.activation_bytes_per_sample = table.number(known[1], 0, most, 0);
  workload.model_parallel_bytes_per_sample = table.number(known[2], 0, most, 0);
  if (const toml::node* flops = table.find(known[3])) {
    const auto number = flops->value<double>();
    if (!number || flops->is_boolean() || !(*number >= 0 && *number <= 1e30))
      table.wrong_value(known[3], "a number from 0 to 1e30", *flops);
    workload.flops_per_sample = *number;
  }
  return workload;
}

// Reads a name of a closed set with a function that throws with the nearest known one.
template <class Parse>
auto parse_name(const Table& table, std::string_view key, const toml::node& value, Parse&& parse) {
  const auto name = value.value_exact<std::string>();
  if (!name || shown(*name) != "'" + *name + "'") table.wrong_value(key, "the name of one", value);
  try {
    return parse(*name);
  } catch (const Error& error) {
    table.wrong(value, error.what());
  }
}

// A [[variable]] table; `repeat` declares it once for each {i} of its path.
struct DescribedVariable {
  Table table;
  VariableDeclaration declaration;
  int64_t repeat = 0;  // 0: once, without {i}
};

constexpr std::string_view kNumberInPath = "{i}";

std::string read_path(const Table& table) {
  const std::string path = table.text("path", "path = \"decoder/{i}/dense/weight\"");
  const toml::node& node = *table.find("path");
  const bool printable = std::ranges::none_of(path, [](char c) { return uint8_t(c) < 0x20 || c == 0x7f; });
  if (path.empty() || path.size() > kLongestPath || !printable)
    table.wrong_value("path", str("1 to ", kLongestPath, " bytes without control characters"), node);
  return path;
}

// The shape is absent or "unknown" where it is not known yet.
std::optional<Shape> read_shape(const Table& table) {
  const toml::node* value = table.find("shape");
  if (!value || value->value_exact<std::string>() == "unknown") return std::nullopt;
  const toml::array& list =
      table.list("shape", *value, "a list of sizes such as [128, 10], [] for a scalar, or \"unknown\"");
  if (list.size() > size_t(kMaxRank))
    table.wrong(list, str("shape: expected at most ", kMaxRank, " dimensions, got ", list.size()));
  std::vector<int64_t> sizes;
  int64_t elements = 1;
  for (const toml::node& size : list) {
    sizes.push_back(table.number("shape", size, 0, kMostElements));
    if (__builtin_mul_overflow(elements, sizes.back(), &elements) || elements > kMostElements)
      table.wrong(size, str("shape: expected at most 2^48 elements, got more; check the sizes"));
  }
  return Shape(std::span<const int64_t>(sizes));
}

DType read_dtype(const Table& table) {
  const std::string name = table.text("dtype", "dtype = \"f32\"");
  for (const DType dtype : kDTypes)
    if (to_string(dtype) == name) return dtype;
  table.wrong_value("dtype", "one of f32, bf16, f64, i32, i64 and f16", *table.find("dtype"));
}

DescribedVariable read_variable(Table table) {
  static constexpr std::string_view known[] = {"path", "shape", "dtype", "role", "aggregation", "layout", "repeat"};
  const std::string path = read_path(table);
  table.call(str("variable ", shown(path)));
  table.allow_only(known);
  VariableDeclaration declaration{
      .path = path, .shape = {}, .dtype = read_dtype(table), .role = Role::parameter, .initializer = {}, .layout = {}};
  declaration.role = parse_name(table, "role", table.at("role", "role = \"parameter\""), parse_role);
  if (const toml::node* aggregation = table.find("aggregation"))
    declaration.aggregation = parse_name(table, "aggregation", *aggregation, parse_aggregation);
  const std::optional<Shape> shape = read_shape(table);
  declaration.shape_pending = !shape;
  if (shape) declaration.shape = *shape;
  if (const toml::node* layout = table.find("layout")) {
    declaration.layout = read_layout(table, "layout", *layout);
    if (shape && declaration.layout->axes.size() != size_t(shape->rank()))
      table.wrong(*layout,
                  str("layout: expected one entry for each of the ", shape->rank(), " dimensions of the shape ",
                      to_string(*shape), ", got ", declaration.layout->axes.size()));
  }
  const int64_t repeat = table.number("repeat", 1, kMostVariables, 0);
  if ((repeat > 0) != (path.find(kNumberInPath) != path.npos))
    table.wrong(table.node(), "repeat = N and {i} in the path go together: {i} becomes 0 to N - 1");
  return {std::move(table), std::move(declaration), repeat};
}

std::string numbered(std::string path, int64_t i) {
  const std::string digits = str(i);
  for (size_t at = 0; (at = path.find(kNumberInPath, at)) != path.npos; at += digits.size())
    path.replace(at, kNumberInPath.size(), digits);
  return path;
}

void declare(const DescribedVariable& described, int64_t i, VariableTable& variables) {
  VariableDeclaration declaration = described.declaration;
  if (described.repeat > 0) declaration.path = numbered(std::move(declaration.path), i);
  try {
    variables.declare(std::move(declaration));
  } catch (const Error& error) {
    fail(error.code(), str(described.table.place(described.table.node()), ": ", error.what()));
  }
}

// Neighbours that repeat equally often are layers: all of {i} = 0 are declared, then all of {i} = 1, and so on.
VariableTable read_variables(const Table& root) {
  std::vector<DescribedVariable> described;
  int64_t count = 0;
  const toml::node& list = root.at("variable", "a table [[variable]] for each");
  for (const toml::node& each : root.list("variable", list, "tables [[variable]]")) {
    if (!each.is_table()) root.wrong_value("variable", "tables [[variable]]", each);
    described.push_back(read_variable(Table(*each.as_table(), "variable", root.file())));
    count += std::max<int64_t>(1, described.back().repeat);
    if (count > kMostVariables)
      described.back().table.wrong(each, str("expected at most ", kMostVariables, " variables"));
  }
  VariableTable variables;
  for (auto begin = described.begin(); begin != described.end();) {
    const auto end = std::find_if(begin, described.end(), [&](const auto& d) { return d.repeat != begin->repeat; });
    for (int64_t i = 0; i < std::max<int64_t>(1, begin->repeat); ++i)
      for (auto each = begin; each != end; ++each) declare(*each, i, variables);
    begin = end;
  }
  return variables;
}

}  // namespace

DescribedModel read_model_text(std::string_view text, const std::string& where) {
  static constexpr std::string_view known[] = {"name", "workload", "variable", "layout"};
  const toml::table parsed = parse_toml(text, where);
  const Table root(parsed, "", where);
  root.allow_only(known);
  DescribedModel model;
  model.name = root.text("name", "name = \"gpt-like\"");
  if (model.name.empty() || shown(model.name) != "'" + model.name + "'")
    root.wrong_value("name", "1 to 80 characters without control characters", *root.find("name"));
  if (root.find("workload")) model.workload = read_workload(root.table("workload"));
  model.variables = read_variables(root);
  if (root.find("layout")) model.layouts = read_layouts(root.table("layout"));
  return model;
}

LayoutMap read_rules_text(std::string_view text, const std::string& where) {
  static constexpr std::string_view known[] = {"layout"};
  const toml::table parsed = parse_toml(text, where);
  const Table root(parsed, "", where);
  root.allow_only(known);
  root.at("layout", "a table [layout] with rules such as \".*/weight\" = [\"-\", \"model\"]");
  return read_layouts(root.table("layout"));
}

// Places in a file are printed in plans too.
DescribedModel read_model_file(const std::string& path) {
  return read_model_text(read_toml_text(path), printable(path, 200));
}
LayoutMap read_rules_file(const std::string& path) {
  return read_rules_text(read_toml_text(path), printable(path, 200));
}

}  // namespace lockstep
