// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <string>
#include <vector>

#include "tools/commands/command_line.h"
#include "tools/supervisor/supervisor.h"

namespace lockstep {

std::vector<std::string> cut_training_off(std::vector<std::string>& words) {
  if (words.empty() || words[0] != "run") return {};
  const auto dashes = std::ranges::find(words, "--");
  std::vector<std::string> training(dashes == words.end() ? dashes : dashes + 1, words.end());
  words.erase(dashes, words.end());
  // As mpirun spells it; CLI11 takes one dash for options of one letter.
  std::ranges::replace(words, "-np", "--np");
  return training;
}

void add_run_command(CLI::App& app, Command& chosen, const std::vector<std::string>& training) {
  auto options = std::make_shared<SupervisorOptions>();
  CLI::App& command =
      *app.add_subcommand("run", "Run a training under a supervisor, which starts it again after a fault");
  command.footer("Behind '--' comes the training: lockstep run -np 4 -- train --checkpoint-dir run/");
  command.add_option("-n,--np", options->ranks,
                     "let the launcher start so many ranks, also written -np (0: one process, which may have --ranks)");
  command.add_option("--launcher", options->launcher, "start ranks with this program, and options of it")
      ->capture_default_str();
  add_choice(command, "--after-fault", options->after_fault, kRanksAfterFault,
             "start it again with the ranks: same | left, one fewer for each that was lost");
  command.add_option("--give-up-after", options->give_up_after, "give up when it has failed so often at the same step")
      ->capture_default_str();
  command
      .add_option("--backoff", options->backoff_seconds,
                  "wait so many seconds when it has failed twice at a step, and twice as long each further time")
      ->capture_default_str();
  command
      .add_option("--snapshot-every", options->snapshot_every,
                  "keep the state in the memory of the machine after every so many steps (0: never)")
      ->capture_default_str();
  command.add_option("--incidents", options->incidents, "add a JSON object for each fault to this file ('': to none)")
      ->capture_default_str();
  command.callback([&chosen, options, &training] {
    chosen = [options, &training](Communicator&) { return supervise(*options, training); };
  });
}

}  // namespace lockstep
