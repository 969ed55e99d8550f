// SPDX-License-Identifier: Apache-2.0
// Reports what is wrong with a command line like every other error: what was expected, what came, what to do.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace lockstep {

// "lockstep bench tape": the sub-commands that were given.
std::string command_path(const CLI::App& app);

// `error` is what parsing the command line of `app` threw.
[[noreturn]] void fail_usage(const CLI::App& app, const CLI::ParseError& error);

}  // namespace lockstep
