// SPDX-License-Identifier: Apache-2.0
// What a run has left: ledger, metrics, record and checkpoints, found by their contents.
#pragma once

#include <cstdint>
#include <fstream>
#include <string>
#include <vector>

namespace lockstep {

struct RunFiles {
  std::string name;                     // as it was asked for
  std::string ledger, metrics, record;  // empty: there is none
  std::string folder;                   // of its checkpoints
  std::vector<int64_t> checkpoints;     // their steps, oldest first
};

// `path` is a folder with files and checkpoints of one run, or one of its files. Error(file) where there is nothing of
// a run, Error(data) where a folder has two files of a kind.
RunFiles find_run(const std::string& path);

// The lines of a file that are of a step, in their order.
class StepLines {
 public:
  // Error(file).
  explicit StepLines(std::string path);
  // Goes on to the next one, the first at first; false behind the last.
  bool next();
  int64_t step() const { return step_; }
  const std::string& text() const { return text_; }
  const std::string& path() const { return path_; }

 private:
  std::string path_, text_;
  std::ifstream file_;
  int64_t step_ = -1;
};

// The first line of a file; empty where there is none.
std::string first_line_of(const std::string& path);

}  // namespace lockstep
