// SPDX-License-Identifier: Apache-2.0
#include "runtime/variables/distribution.h"

#include <algorithm>

#include "kernels/device/check.h"
#include "kernels/device/number_text.h"
#include "kernels/device/view.h"

namespace lockstep {
namespace {

constexpr int64_t kMostRanks = 10'000'000;
constexpr size_t kMostAxes = 16;
constexpr size_t kLongestName = 64;

std::string axis_names(const std::vector<MeshAxis>& mesh) {
  std::string names;
  for (const MeshAxis& axis : mesh) names += (names.empty() ? "" : ", ") + axis.name;
  return names;
}

std::string choose_batch_axis(const std::vector<MeshAxis>& mesh, std::string given) {
  const auto has = [&](std::string_view name) {
    return std::any_of(mesh.begin(), mesh.end(), [&](const MeshAxis& axis) { return axis.name == name; });
  };
  if (given.empty()) return has("data") ? "data" : has("batch") ? "batch" : mesh[0].name;
  check(has(given), ErrorCode::plan,
        [&] { return str("the batch axis '", given, "' is not in the mesh ", to_string(mesh)); });
  return given;
}

// Names appear in meshes like data=8,model=4 and in layouts, where - is no axis.
void check_names(const std::vector<MeshAxis>& mesh) {
  check(mesh.size() <= kMostAxes, ErrorCode::plan,
        [&] { return str("a mesh has at most ", kMostAxes, " axes, got ", mesh.size()); });
  for (size_t i = 0; i < mesh.size(); ++i) {
    const std::string& name = mesh[i].name;
    const bool plain = std::all_of(name.begin(), name.end(), [](char c) { return uint8_t(c) > 0x20 && c != 0x7f; });
    check(plain && name.size() <= kLongestName && name != "-" && name.find_first_of(",=") == name.npos, ErrorCode::plan,
          [&] {
            return str("axis ", i, " of the mesh needs a name of at most ", kLongestName,
                       " characters without spaces, commas and equals signs, and other than '-'");
          });
  }
}

void check_rule(const LayoutRule& rule, const Distribution& distribution) {
  const auto what = [&] {
    return str("layout rule '", rule.pattern, "' ", rule.where.empty() ? std::string() : "(" + rule.where + ") ",
               "with layout ", to_string(rule.layout));
  };
  check(rule.layout.axes.size() <= size_t(kMaxRank), ErrorCode::plan, [&] {
    return str("layout rule '", rule.pattern, "' has a layout of ", rule.layout.axes.size(),
               " dimensions; variables have at most ", kMaxRank);
  });
  for (size_t i = 0; i < rule.layout.axes.size(); ++i) {
    const std::string& axis = rule.layout.axes[i];
    if (axis.empty()) continue;
    check(distribution.has_axis(axis), ErrorCode::plan, [&] {
      return str(what(), " names the axis '", axis, "', but the mesh has only ", axis_names(distribution.mesh));
    });
    for (size_t j = 0; j < i; ++j)
      check(rule.layout.axes[j] != axis, ErrorCode::plan, [&] {
        return str(what(), " splits dimensions ", j, " and ", i, " by the same axis '", axis,
                   "'; an axis can split one dimension");
      });
  }
}

}  // namespace

int64_t Distribution::ranks() const {
  int64_t product = 1;
  for (const MeshAxis& axis : mesh) product *= axis.size;
  return product;
}

bool Distribution::has_axis(std::string_view name) const {
  return std::any_of(mesh.begin(), mesh.end(), [&](const MeshAxis& axis) { return axis.name == name; });
}

int64_t Distribution::size(std::string_view name) const {
  for (const MeshAxis& axis : mesh)
    if (axis.name == name) return axis.size;
  fail(ErrorCode::plan, str("the mesh ", to_string(mesh), " has no axis '", name, "'"));
}

Distribution data_parallel(std::vector<MeshAxis> mesh, std::string batch_axis) {
  return model_parallel(std::move(mesh), LayoutMap(), std::move(batch_axis));
}

Distribution model_parallel(std::vector<MeshAxis> mesh, LayoutMap layouts, std::string batch_axis) {
  check_names(mesh);
  int64_t product = 1;
  for (const MeshAxis& axis : mesh) {
    check(axis.size < 1 || product <= kMostRanks / axis.size, ErrorCode::plan,
          [&] { return str("the mesh ", to_string(mesh), " has more than ", kMostRanks, " ranks; plan for fewer"); });
    product *= axis.size;
  }
  check_mesh(mesh, int(product));
  std::string batch = choose_batch_axis(mesh, std::move(batch_axis));
  Distribution distribution{std::move(mesh), std::move(batch), std::move(layouts)};
  for (const LayoutRule& rule : distribution.layouts.rules()) check_rule(rule, distribution);
  return distribution;
}

std::vector<MeshAxis> parse_mesh(std::string_view text) {
  std::vector<MeshAxis> mesh;
  const auto wrong = [&](std::string_view why) {
    fail(ErrorCode::usage, str("a mesh is written like data=8,model=4; got '", text, "': ", why));
  };
  for (std::string_view rest = text;;) {
    const std::string_view item = rest.substr(0, rest.find(','));
    const size_t equals = item.find('=');
    if (equals == std::string_view::npos || equals == 0)
      wrong(str("'", item, "' has no name and size, such as data=8"));
    const std::string_view digits = item.substr(equals + 1);
    const std::optional<int64_t> size = whole_number_in(digits);
    if (!size || *size < 1 || *size > kMostRanks) wrong(str("'", digits, "' is no size from 1 to ", kMostRanks));
    mesh.push_back({std::string(item.substr(0, equals)), int(*size)});
    if (item.size() == rest.size()) return mesh;
    rest.remove_prefix(item.size() + 1);
  }
}

std::string to_string(const std::vector<MeshAxis>& mesh) {
  std::string text;
  for (const MeshAxis& axis : mesh) text += str(text.empty() ? "" : ",", axis.name, "=", axis.size);
  return text;
}

}  // namespace lockstep
