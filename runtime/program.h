// SPDX-License-Identifier: Apache-2.0
// The frame of a program that runs on the ranks of mpirun, or on ranks that are threads.
#pragma once

#include <chrono>
#include <exception>
#include <functional>
#include <string>

#include "collectives/communicator.h"

namespace lockstep {

// The body of main(): joins the ranks that the launcher started and returns what `body` returns. With `--ranks N` among
// the arguments, which are otherwise left alone, body runs on N ranks that are threads of this process. A failure is
// printed once, whatever the number of ranks, and ends all of them; the result is then 2 for wrong usage and 1 for
// anything else. `--timeout SECONDS` is how long ranks wait for each other, from start to end.
int run_program(int argc, char** argv, const std::function<int(Communicator&)>& body);
// The value of `--timeout SECONDS` among the arguments, which is needed before they are read; without it, or where it
// makes no sense, how long ranks wait for each other otherwise.
std::chrono::milliseconds timeout_of(int argc, char** argv);

// Prints "lockstep: error: [code] rank 1 of 2 on host: what" to standard error. `speaker` is " rank 1 of 2 on host:",
// or nothing for one rank. A bug of Lockstep's own is shown with its place in the source.
void print_error(const std::string& speaker, const std::exception& error);
// How one of several ranks names itself in print_error().
std::string speaker_of(const Communicator& ranks);

}  // namespace lockstep
