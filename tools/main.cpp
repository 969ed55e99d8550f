// SPDX-License-Identifier: Apache-2.0
// lockstep: one program, one small file per sub-command.
#include <fmt/format.h>

#include <cstdio>
#include <exception>
#include <string>

#include "collectives/bootstrap.h"
#include "kernels/config.h"
#include "tools/command_line.h"

namespace lockstep {
namespace {

// Which of several ranks an error speaks for: " rank 1 of 2 on host:", or nothing for one rank.
struct Speaker {
  std::string name;
};

void report(const Speaker& speaker, const std::exception& error) {
  const auto* known = dynamic_cast<const Error*>(&error);
  const std::string_view code = to_string(known ? known->code() : ErrorCode::internal);
  std::string place;
  // A bug is looked for in the source; everything else where the user stands.
  if (known && known->code() == ErrorCode::internal)
    place = fmt::format(" ({}:{})", known->at().file_name(), known->at().line());
  fmt::print(stderr, "lockstep: error: [{}]{} {}{}\n", code, speaker.name, error.what(), place);
  std::fflush(stderr);
}

// What CLI11 found wrong, as the error of everything else.
[[noreturn]] void fail_usage(const CLI::App& app, const CLI::ParseError& error) {
  std::string command = app.get_name();
  for (const CLI::App* chosen : app.get_subcommands()) command += " " + chosen->get_name();
  fail(ErrorCode::usage, fmt::format("{}; see {} --help", error.what(), command));
}

int run_program(int argc, char** argv, Communicator& communicator) {
  CLI::App app("Lockstep trains models on many ranks with the same bits on any number of them.", "lockstep");
  app.set_version_flag("--version", std::string("lockstep ") + config::version);
  app.require_subcommand(1);
  app.failure_message(CLI::FailureMessage::simple);
  Command chosen;
  add_train_command(app, chosen);
  add_eval_command(app, chosen);
  add_explain_command(app, chosen);
  add_bench_command(app, chosen);
  add_doctor_command(app, chosen);
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& asked) {  // --help, --version
    return communicator.rank() == 0 ? app.exit(asked) : 0;
  } catch (const CLI::ParseError& error) {
    fail_usage(app, error);
  }
  chosen(communicator);
  return 0;
}

}  // namespace
}  // namespace lockstep

int main(int argc, char** argv) {
  using namespace lockstep;
  Speaker speaker;
  return run_connected(
      [&](Communicator& communicator) {
        if (communicator.size() > 1)
          speaker.name =
              fmt::format(" rank {} of {} on {}:", communicator.rank(), communicator.size(), communicator.place().host);
        return run_program(argc, argv, communicator);
      },
      [&](const std::exception& error) { report(speaker, error); });
}
