// SPDX-License-Identifier: Apache-2.0
// What is wrong with a command line, said like every other error: expected, came, what to do.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace lockstep {

// "lockstep bench tape": the sub-commands that were given.
std::string command_path(const CLI::App& app);

// `error` is what parsing the command line of `app` threw.
[[noreturn]] void fail_usage(const CLI::App& app, const CLI::ParseError& error);

}  // namespace lockstep
