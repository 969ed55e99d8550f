// SPDX-License-Identifier: Apache-2.0
// lockstep: one program, one small file per sub-command.
#include <fmt/format.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <string>

#include "collectives/bootstrap.h"
#include "collectives/handshake.h"
#include "kernels/config.h"
#include "tools/commands/command_line.h"
#include "tools/commands/usage.h"

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

// Output that was lost is a failure, though it shows only when the buffer is emptied.
void flush_output() {
  check(std::fflush(stdout) == 0 && std::ferror(stdout) == 0, ErrorCode::file, [] {
    return str("cannot write the standard output: ", std::strerror(errno), "; free some space, or print elsewhere");
  });
}

int run_program(int argc, char** argv, Communicator& communicator) {
  CLI::App app("Lockstep trains models on many ranks with the same bits on any number of them.", "lockstep");
  app.set_version_flag("--version", std::string("lockstep ") + config::version);
  app.require_subcommand(1);
  app.failure_message(CLI::FailureMessage::simple);
  Command chosen;
  add_train_command(app, chosen);
  add_eval_command(app, chosen);
  add_plan_command(app, chosen);
  add_explain_command(app, chosen);
  add_plot_command(app, chosen);
  add_bench_command(app, chosen);
  add_doctor_command(app, chosen);
  std::string command;
  try {
    app.parse(argc, argv);
    command = command_path(app);
  } catch (const CLI::Success& asked) {  // --help, --version
    chosen = [&app, asked](Communicator& c) {
      if (c.rank() == 0) app.exit(asked);
    };
    command = "--help or --version";
  } catch (const CLI::ParseError& error) {
    fail_usage(app, error);
  }
  // Else the ranks of one command would wait for those of another.
  check_agreement(communicator, {{"command", command}});
  chosen(communicator);
  flush_output();
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
