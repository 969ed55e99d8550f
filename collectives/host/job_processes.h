// SPDX-License-Identifier: Apache-2.0
// The processes of a job on this machine, as the system lists them: while MPI starts or ends nobody can be asked, but
// it shows who is stopped, who has ended, and who runs another program.
#pragma once

#include <string>

namespace lockstep {

// " (process 4711 is stopped)", " (process 4711 has ended)"; empty for one that runs, and for process 0.
std::string trouble_of_process(int process);

// What is wrong with the other ranks of the job that this process was started in, for the end of a message: "rank 1
// (process 4711) is stopped; no process of rank 2 is on this machine". Says so when all of them are there.
std::string trouble_of_job();

// The right to speak for the job on this machine, which is the first's who asks. It is lost with the object or the
// process.
class Spokesman {
 public:
  Spokesman();
  Spokesman(const Spokesman&) = delete;
  Spokesman& operator=(const Spokesman&) = delete;
  ~Spokesman();
  bool may_speak() const { return may_speak_; }

 private:
  int socket_ = -1;
  bool may_speak_ = false;
};

}  // namespace lockstep
