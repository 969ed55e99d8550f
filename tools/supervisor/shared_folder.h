// SPDX-License-Identifier: Apache-2.0
// The folder in the memory of the machine that a supervisor shares with its run: heartbeats, snapshots, and the files
// of the launcher, which would be left elsewhere when it is killed.
#pragma once

#include <map>
#include <string>

namespace lockstep {

class SharedFolder {
 public:
  // Makes it, and removes those of supervisors that are gone. Error(file).
  SharedFolder();
  SharedFolder(const SharedFolder&) = delete;
  SharedFolder& operator=(const SharedFolder&) = delete;
  ~SharedFolder();

  const std::string& path() const { return path_; }
  // Empties the launcher's part, when nothing of a life is left.
  void begin_life() const;
  // What a launcher has to be told to keep its files there, unless the user has said otherwise.
  std::map<std::string, std::string> launcher_environment() const;

 private:
  std::string path_;
};

}  // namespace lockstep
