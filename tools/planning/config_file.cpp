// SPDX-License-Identifier: Apache-2.0
#include "tools/planning/config_file.h"

#include "kernels/device/check.h"
#include "kernels/device/number_text.h"
#include "tools/planning/toml_file.h"
#include "tools/planning/toml_text.h"

namespace lockstep {
namespace {

std::string typed(const toml::node& node, const std::string& key, const std::string& place) {
  if (const auto text = node.value_exact<std::string>()) {
    check(!text->empty(), ErrorCode::data,
          [&] { return str(place, ": ", shown(key), ": expected a text of at least one character, got none"); });
    return *text;
  }
  if (const auto number = node.value_exact<int64_t>()) return str(*number);
  if (const auto number = node.value_exact<double>()) return exact(*number);
  if (const auto yes = node.value_exact<bool>()) return *yes ? "true" : "false";
  fail(ErrorCode::data, str(place, ": ", shown(key), ": expected a text, a number, true or false, or a list of them"));
}

std::string place_of(const toml::node& node, const std::string& file) {
  return str(file, ":", node.source().begin.line);
}

ConfigEntry entry_of(const toml::node& node, const std::string& key, const std::string& file) {
  ConfigEntry entry{.key = key, .values = {}, .where = place_of(node, file)};
  if (const toml::array* list = node.as_array())
    for (const toml::node& each : *list) entry.values.push_back(typed(each, key, entry.where));
  else
    entry.values.push_back(typed(node, key, entry.where));
  check(!entry.values.empty(), ErrorCode::data,
        [&] { return str(entry.where, ": ", shown(key), ": expected at least one value in the list, got none"); });
  return entry;
}

}  // namespace

std::vector<ConfigEntry> read_config_file(const std::string& path) {
  return read_config_text(read_toml_text(path), path);
}

std::vector<ConfigEntry> read_config_text(std::string_view text, const std::string& where) {
  std::vector<ConfigEntry> entries;
  for (const toml::table root = parse_toml(text, where); const auto& entry : root) {
    const toml::key& section = entry.first;
    const toml::node& node = entry.second;
    const toml::table* keys = node.as_table();
    check(keys != nullptr, ErrorCode::data, [&] {
      return str(place_of(node, where), ": ", shown(section.str()),
                 " stands outside of a section; put it into one, such as [model], [data], [optimizer] or [train]");
    });
    for (const auto& [key, value] : *keys)
      entries.push_back(entry_of(value, str(section.str(), ".", key.str()), where));
  }
  return entries;
}

}  // namespace lockstep
