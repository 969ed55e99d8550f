// SPDX-License-Identifier: Apache-2.0
// Reads numbers of a command line as they were typed, and reports what is wrong with it like every other error: what
// was expected, what came, what to do.
#pragma once

#include <CLI/CLI.hpp>
#include <string>

namespace lockstep {

// Makes every option of `app` and its sub-commands that takes a number take what was typed: whole numbers are decimal,
// also with leading zeros, and a number that does not fit is refused. CLI11 alone reads 010 as 8, and takes its largest
// number for any larger one.
void read_numbers_as_typed(CLI::App& app);

// "lockstep bench tape": the sub-commands that were given.
std::string command_path(const CLI::App& app);

// `error` is what parsing the command line of `app` threw.
[[noreturn]] void fail_usage(const CLI::App& app, const CLI::ParseError& error);

}  // namespace lockstep
