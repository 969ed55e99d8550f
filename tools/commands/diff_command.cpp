// SPDX-License-Identifier: Apache-2.0
#include "runtime/files/standard_output.h"
#include "tools/commands/command_line.h"
#include "tools/record/run_diff.h"

namespace lockstep {

void add_diff_command(CLI::App& app, Command& chosen) {
  struct Options {
    std::string a, b;
  };
  auto options = std::make_shared<Options>();
  CLI::App& command = *app.add_subcommand(
      "diff", "Say in which step, part, rank, variable and element two runs differ first; the exit code is then 1");
  command.add_option("a", options->a, "a folder with files and checkpoints of one run, or one file of it")->required();
  command.add_option("b", options->b, "the same of another one")->required();
  command.callback([&chosen, options] {
    chosen = [options](Communicator& ranks) {
      if (ranks.rank() != 0) return 0;
      const RunDifference difference = difference_of_runs(options->a, options->b);
      print_output(difference.text);
      return difference.differs ? 1 : 0;
    };
  });
}

}  // namespace lockstep
