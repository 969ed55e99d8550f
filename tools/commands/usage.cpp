// SPDX-License-Identifier: Apache-2.0
#include "tools/commands/usage.h"

#include <cstdio>
#include <limits>
#include <vector>

#include "kernels/device/known_name.h"
#include "kernels/device/number_text.h"

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

// CLI11 says "Could not convert: --zero = 99999999999", but not what it would have taken.
void check_conversion(const CLI::App& command, const CLI::ParseError& error, const std::string& more) {
  if (error.get_name() != "ConversionError") return;
  for (const CLI::Option* option : command.get_options()) {
    const std::string name = option->get_name();
    if (std::string(error.what()).find(" " + name + " = ") == std::string::npos) continue;
    fail(ErrorCode::usage, str(name, ": expected a smaller number, got '", option->results().back(), "'; ", more));
  }
}

// Both make of `text` what CLI11 converts to exactly the number that was typed, or return what is wrong with it.
std::string take_whole_number(std::string& text) {
  const bool digits = text.find_first_not_of("+-0123456789") == text.npos;
  const std::optional<int64_t> number = whole_number_in(text);
  if (!number)
    return str("expected a whole number",
               digits ? str(" from ", std::numeric_limits<int64_t>::min(), " to ", std::numeric_limits<int64_t>::max())
                      : std::string(),
               ", got '", text, "'");
  text = str(*number);
  return "";
}

std::string take_real_number(std::string& text) {
  const std::optional<double> number = real_number_in(text);
  if (!number) return str("expected a number, got '", text, "'");
  char hexadecimal[64];  // CLI11 rounds decimal digits twice
  std::snprintf(hexadecimal, sizeof hexadecimal, "%a", *number);
  text = hexadecimal;
  return "";
}

}  // namespace

void read_numbers_as_typed(CLI::App& app) {
  for (CLI::Option* option : app.get_options()) {
    const std::string type = option->get_type_name();
    if (type == "INT") option->transform(CLI::Validator(take_whole_number, ""));
    if (type == "FLOAT") option->transform(CLI::Validator(take_real_number, ""));
  }
  for (CLI::App* command : app.get_subcommands([](CLI::App*) { return true; })) read_numbers_as_typed(*command);
}

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
