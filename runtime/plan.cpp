// SPDX-License-Identifier: Apache-2.0
#include "runtime/plan.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace lockstep {
namespace {

nlohmann::json sizes_of(const Shape& shape) {
  nlohmann::json sizes = nlohmann::json::array();
  for (const int64_t size : shape.sizes()) sizes.push_back(size);
  return sizes;
}

nlohmann::json variable_json(const PlannedVariable& v) {
  nlohmann::json reasons = nlohmann::json::array();
  for (const Decision& d : v.decisions)
    reasons.push_back({{"question", d.question}, {"answer", d.answer}, {"rule", d.rule}, {"reason", d.reason}});
  nlohmann::json axes = nlohmann::json::array();
  for (const std::string& axis : v.layout.axes) axes.push_back(axis.empty() ? nlohmann::json() : nlohmann::json(axis));
  return {{"path", v.path},
          {"role", to_string(v.role)},
          {"shape", sizes_of(v.shape)},
          {"dtype", to_string(v.dtype)},
          {"layout", axes},
          {"on_tape", v.on_tape},
          {"in_gradient_sync", v.in_gradient_sync},
          {"aggregation", to_string(v.aggregation)},
          {"bucket", v.bucket},
          {"offset", v.offset},
          {"bytes_per_rank", v.bytes()},
          {"reason", reasons}};
}

nlohmann::json content_json(const Plan& plan) {
  nlohmann::json json;
  for (const MeshAxis& axis : plan.mesh) json["mesh"].push_back({{"axis", axis.name}, {"size", axis.size}});
  json["optimizer"] = plan.optimizer;
  json["reduce"] = plan.reduce;
  json["virtual_ranks"] = plan.virtual_ranks;
  for (const PlannedVariable& v : plan.variables) json["variables"].push_back(variable_json(v));
  for (const PlannedBucket& b : plan.buckets) {
    nlohmann::json paths = nlohmann::json::array();
    for (const int32_t v : b.variables) paths.push_back(plan.variables[size_t(v)].path);
    json["buckets"].push_back({{"begin", b.begin}, {"end", b.end}, {"variables", paths}});
  }
  for (const PlannedCollective& c : plan.collectives)
    json["collectives"].push_back(
        {{"kind", c.kind}, {"dtype", to_string(c.dtype)}, {"group", c.group}, {"bytes", c.bytes}, {"what", c.what}});
  json["memory"] = {{"parameters_per_node", plan.memory.parameters},
                    {"slots_per_node", plan.memory.slots},
                    {"gradients_per_rank", plan.memory.gradients},
                    {"scalars_per_rank", plan.memory.scalars}};
  json["warnings"] = plan.warnings;
  return json;
}

std::string pad(std::string text, size_t width) {
  if (text.size() < width) text.append(width - text.size(), ' ');
  return text + "  ";
}

}  // namespace

const PlannedVariable& Plan::at(std::string_view path) const {
  const auto found = std::find_if(variables.begin(), variables.end(), [&](const auto& v) { return v.path == path; });
  check(found != variables.end(), ErrorCode::plan, [&] {
    std::string known;
    for (const PlannedVariable& v : variables) known += (known.empty() ? "" : ", ") + v.path;
    return str("no variable is called ", path, "; the plan has ", known);
  });
  return *found;
}

uint64_t Plan::hash() const {
  const std::string content = content_json(*this).dump();
  return XXH3_64bits(content.data(), content.size());
}

std::string Plan::to_json() const {
  nlohmann::json json = content_json(*this);
  char text[17];
  std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(hash()));
  json["hash"] = text;
  return json.dump(2);
}

std::string Plan::explain(std::string_view path) const {
  const PlannedVariable& v = at(path);
  std::string text =
      str(v.path, "   ", to_string(v.dtype), " ", to_string(v.shape), "   role ", to_string(v.role), "\n");
  for (const Decision& d : v.decisions)
    text += "  " + pad(d.question, 14) + pad(d.answer, 22) + "rule " + d.rule + ": " + d.reason + "\n";
  text += "  " + pad("cost", 14) +
          str(v.bytes(), " B", v.section == Section::scalars ? " in each rank" : " per node",
              v.in_gradient_sync ? str(", gradient of ", v.bytes(), " B summed every step")
                                 : std::string(", nothing on the wire in a step"),
              "\n");
  return text;
}

std::string Plan::table() const {
  std::string text = pad("variable", 34) + pad("role", 16) + pad("shape", 18) + pad("dtype", 5) + pad("layout", 14) +
                     pad("tape", 4) + pad("sync", 4) + pad("aggregation", 18) + "bytes\n";
  for (const PlannedVariable& v : variables)
    text += pad(v.path, 34) + pad(std::string(to_string(v.role)), 16) + pad(to_string(v.shape), 18) +
            pad(std::string(to_string(v.dtype)), 5) + pad(to_string(v.layout), 14) + pad(v.on_tape ? "yes" : "no", 4) +
            pad(v.in_gradient_sync ? "yes" : "no", 4) + pad(std::string(to_string(v.aggregation)), 18) +
            str(v.bytes()) + "\n";
  return text;
}

}  // namespace lockstep
