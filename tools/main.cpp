// SPDX-License-Identifier: Apache-2.0
// lockstep: one program, one small file per sub-command.
#include <algorithm>
#include <exception>
#include <string>
#include <vector>

#include "collectives/bootstrap.h"
#include "collectives/handshake.h"
#include "kernels/config.h"
#include "runtime/files/standard_output.h"
#include "runtime/program.h"
#include "tools/commands/command_line.h"
#include "tools/commands/usage.h"

namespace lockstep {
namespace {

int run_command(int argc, char** argv, Communicator& communicator) {
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
  add_tokenize_command(app, chosen);
  add_convert_command(app, chosen);
  add_sample_command(app, chosen);
  add_checkpoint_command(app, chosen);
  add_diff_command(app, chosen);
  add_doctor_command(app, chosen);
  std::vector<std::string> words(argv + 1, argv + argc);
  const std::vector<std::string> training = cut_training_off(words);
  add_run_command(app, chosen, training);
  read_numbers_as_typed(app);
  std::string command;
  try {
    std::ranges::reverse(words);  // CLI11 takes them from the end
    app.parse(words);
    command = command_path(app);
  } catch (const CLI::Success& asked) {  // --help, --version
    chosen = [&app, asked](Communicator& c) {
      if (c.rank() == 0) app.exit(asked);
      return 0;
    };
    command = "--help or --version";
  } catch (const CLI::ParseError& error) {
    fail_usage(app, error);
  }
  // Otherwise the ranks of one command would wait for those of another.
  check_agreement(communicator, {{"command", command}});
  const int code = chosen(communicator);
  flush_output();
  return code;
}

}  // namespace
}  // namespace lockstep

int main(int argc, char** argv) {
  using namespace lockstep;
  prepare_standard_streams();
  std::string speaker;
  return run_connected(
      [&](Communicator& communicator) {
        speaker = speaker_of(communicator);
        return run_command(argc, argv, communicator);
      },
      [&](const std::exception& error) { print_error(speaker, error); }, timeout_of(argc, argv));
}
