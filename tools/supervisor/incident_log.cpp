// SPDX-License-Identifier: Apache-2.0
#include "tools/supervisor/incident_log.h"

#include <fcntl.h>

#include <cerrno>
#include <ctime>
#include <nlohmann/json.hpp>

#include "kernels/device/check.h"
#include "kernels/device/printable.h"
#include "runtime/files/file_descriptor.h"
#include "runtime/files/standard_output.h"

namespace lockstep {
namespace {

std::string time_text() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

}  // namespace

void IncidentLog::write(const Incident& incident) {
  print_remark(str("lockstep: incident: ", printable(incident.what), incident.action.empty() ? "" : "; ",
                   incident.action, "\n"));
  try {
    if (!path_.empty()) append(incident);
  } catch (const Error& error) {
    if (!warned_) print_remark(str("lockstep: warning: the log of incidents is not written: ", error.what(), "\n"));
    warned_ = true;
  }
}

void IncidentLog::append(const Incident& incident) const {
  nlohmann::ordered_json line{{"time", time_text()},
                              {"kind", incident.kind},
                              {"what", incident.what},
                              {"life", incident.life},
                              {"ranks", incident.ranks}};
  const auto add = [&](const char* key, const auto& value) {
    if (value) line[key] = *value;
  };
  add("step", incident.step);
  add("rank", incident.rank);
  add("process", incident.process);
  add("exit_code", incident.exit_code);
  add("repeated_steps", incident.repeated_steps);
  add("seconds", incident.seconds);
  if (!incident.variable.empty()) line["variable"] = incident.variable;
  if (!incident.action.empty()) line["action"] = incident.action;
  const std::string text = line.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  const FileDescriptor file(::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
  if (!file.is_open()) fail_file("open", path_, errno);
  write_all(file, path_, text.data(), int64_t(text.size()));
}

}  // namespace lockstep
