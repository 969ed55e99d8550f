// SPDX-License-Identifier: Apache-2.0
// What has happened to a run, for people: a line on standard error, and a JSON object on a line of its own in a file
// that grows from run to run.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

namespace lockstep {

// The environment variable that names the file to a run under a supervisor, whose ranks see more than it does.
inline constexpr const char* kIncidentsVariable = "LOCKSTEP_INCIDENTS";

struct Incident {
  std::string what;  // one sentence without an end
  std::string kind;  // "killed", "stopped", "hang", "exit", "launcher", "resumed", "replica"
  int life = 1;
  int64_t ranks = 0;
  std::optional<int64_t> step = {};  // so many were taken
  std::optional<int64_t> rank = {}, process = {};
  std::optional<int64_t> exit_code = {};
  std::optional<int64_t> repeated_steps = {};  // that were taken before and are taken again
  std::optional<double> seconds = {};          // from the fault to the first step after it
  std::string variable = {};                   // that was not as it should be; empty: it was something else
  std::string action = {};                     // "relaunch with 4 ranks", "give up"; empty: none
};

class IncidentLog {
 public:
  // `path`: empty: no file. It is made with the first incident.
  explicit IncidentLog(std::string path) : path_(std::move(path)) {}
  // A file that cannot be written is a warning, once: the run is worth more than the log of it.
  void write(const Incident& incident);

 private:
  void append(const Incident& incident) const;
  std::string path_;
  bool warned_ = false;
};

}  // namespace lockstep
