// SPDX-License-Identifier: Apache-2.0
#include "tools/commands/usage.h"

#include <vector>

#include "kernels/device/known_name.h"

namespace lockstep {
namespace {

// The innermost sub-command that was given.
const CLI::App& given(const CLI::App& app) {
  const CLI::App* at = &app;
  while (!at->get_subcommands().empty()) at = at->get_subcommands().front();
  return *at;
}

void check_option(const CLI::App& command, const std::string& typed, const std::string& more) {
  std::vector<std::string> names;
  for (const CLI::Option* option : command.get_options())
    for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
  check_known("option", typed.substr(0, typed.find('=')), std::vector<std::string_view>(names.begin(), names.end()),
              more);
}

void check_subcommand(const CLI::App& command, const std::string& typed, const std::string& more) {
  std::vector<std::string> names;
  for (const CLI::App* each : command.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(each->get_name());
  if (names.empty()) fail(ErrorCode::usage, str("unexpected argument '", typed, "'; ", more));
  const std::vector<std::string_view> known(names.begin(), names.end());
  check_known("command", typed, known, list_of(known));
}

// CLI11 says "Could not convert: --batch = abc", but not what it would have taken.
void check_conversion(const CLI::App& command, const CLI::ParseError& error, const std::string& more) {
  if (error.get_name() != "ConversionError") return;
  for (const CLI::Option* option : command.get_options()) {
    const std::string name = option->get_name();
    if (std::string(error.what()).find(" " + name + " = ") == std::string::npos) continue;
    const char* expected = option->get_type_name() == "INT" ? "a whole number" : "a number";
    fail(ErrorCode::usage, str(name, ": expected ", expected, ", got '", option->results().back(), "'; ", more));
  }
}

}  // namespace

std::string command_path(const CLI::App& app) {
  std::string path = app.get_name();
  for (const CLI::App* at = &app; !at->get_subcommands().empty();) {
    at = at->get_subcommands().front();
    path += " " + at->get_name();
  }
  return path;
}

void fail_usage(const CLI::App& app, const CLI::ParseError& error) {
  const CLI::App& command = given(app);
  const std::string more = str("see ", command_path(app), " --help");
  const std::vector<std::string> unknown = app.remaining(true);
  if (!unknown.empty() && unknown[0].starts_with("-")) check_option(command, unknown[0], more);
  if (!unknown.empty()) check_subcommand(command, unknown[0], more);
  check_conversion(command, error, more);
  fail(ErrorCode::usage, str(error.what(), "; ", more));
}

}  // namespace lockstep
