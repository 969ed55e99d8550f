// SPDX-License-Identifier: Apache-2.0
// A launcher with everything that it starts, kept by a process of its own, so that nothing of a run outlives its
// supervisor, however that ends. The keeper leads a process group, and processes whose parents are gone become its
// children; what it ends are its own descendants and nothing else.
#pragma once

#include <sys/types.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "runtime/files/file_descriptor.h"

namespace lockstep {

struct LauncherCommand {
  std::vector<std::string> words;                  // the first is looked up in PATH
  std::map<std::string, std::string> environment;  // in addition to this process's
  std::string folder;                              // removed where the supervisor has gone
};

class KeptLauncher {
 public:
  // Starts it; this process has to have one thread only. Error(device) where the system has no more processes.
  explicit KeptLauncher(const LauncherCommand& command);
  KeptLauncher(const KeptLauncher&) = delete;
  KeptLauncher& operator=(const KeptLauncher&) = delete;
  // Ends what is left.
  ~KeptLauncher();

  // Sends a signal to the launcher.
  void pass_on(int signal);
  // Asks the keeper to end the launcher and everything that it has started: by TERM, and those that are left after
  // some seconds by KILL.
  void end();
  // Once the launcher and all its descendants have ended: how the launcher did, as a shell says it.
  std::optional<int> exit_code();

 private:
  void tell(unsigned char command);

  pid_t keeper_ = -1;
  FileDescriptor commands_, reports_;
  std::optional<int> code_;
};

// Ends all descendants of this process by KILL, and waits for those that are its children.
void kill_descendants();

}  // namespace lockstep
