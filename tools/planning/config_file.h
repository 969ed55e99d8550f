// SPDX-License-Identifier: Apache-2.0
// The file of a run: sections of settings, which are options of the command line under the name section.key.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace lockstep {

struct ConfigEntry {
  std::string key;                  // "model.n_layer"
  std::vector<std::string> values;  // as they would be typed; a list in the file gives several
  std::string where;                // file and line, "gpt.toml:3"
};

// Sorted by section and key. Error(file); Error(data) names file and line of what is no setting.
std::vector<ConfigEntry> read_config_file(const std::string& path);
// The same from a text; `where` stands for the file in messages.
std::vector<ConfigEntry> read_config_text(std::string_view text, const std::string& where);

}  // namespace lockstep
