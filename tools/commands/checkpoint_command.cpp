// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "runtime/checkpoint/checkpoint_reader.h"
#include "runtime/files/standard_output.h"
#include "tools/checkpoint/inspect.h"
#include "tools/commands/command_line.h"

namespace lockstep {
namespace {

struct CheckpointCommandOptions {
  std::string path, other;
  bool tensors = false, json = false;
  KeepRules keep = {};
  PruneRequest prune = {};
};

// Rank 0 alone works; `work` returns the exit code.
template <class Work>
void set_work(CLI::App& command, Command& chosen, Work work) {
  command.callback(
      [&chosen, work] { chosen = [work](Communicator& ranks) { return ranks.rank() == 0 ? work() : 0; }; });
}

int print(const std::string& text) {
  print_output(text);
  return 0;
}

}  // namespace

void add_checkpoint_command(CLI::App& app, Command& chosen) {
  auto options = std::make_shared<CheckpointCommandOptions>();
  CLI::App& checkpoint = *app.add_subcommand("checkpoint", "Look at checkpoints, verify, compare and remove them");
  checkpoint.require_subcommand(1);
  const auto add = [&](const char* name, const char* help) -> CLI::App& {
    return *checkpoint.add_subcommand(name, help);
  };

  CLI::App& list = add("list", "List the checkpoints of a folder");
  list.add_option("folder", options->path, "the folder of --checkpoint-dir")->required();
  set_work(list, chosen, [options] { return print(list_text(options->path)); });

  CLI::App& show = add("show", "Say what a checkpoint holds, and where its run was");
  show.add_option("checkpoint", options->path, "the folder of one checkpoint, such as run/latest")->required();
  show.add_flag("--tensors", options->tensors, "list its tensors, too");
  show.add_flag("--json", options->json, "print the manifest as it is");
  set_work(show, chosen, [options] {
    return print(options->json ? read_manifest_text(options->path) : show_text(options->path, options->tensors));
  });

  CLI::App& verify_command = add("verify", "Read every byte of a checkpoint, or of all in a folder");
  verify_command.add_option("path", options->path, "a checkpoint, or the folder of several")->required();
  set_work(verify_command, chosen, [options] {
    const Verified verified = verify(options->path);
    print_output(verified.text);
    flush_output();
    check(verified.damaged == 0, ErrorCode::data, [&] {
      return str(verified.damaged, " of ", verified.checkpoints, " checkpoints of '", options->path,
                 "' cannot be believed; a run goes on from the newest that can");
    });
    return 0;
  });

  CLI::App& diff = add("diff", "Say what differs between two checkpoints; the exit code is 1 when something does");
  diff.add_option("a", options->path, "a checkpoint")->required();
  diff.add_option("b", options->other, "another one")->required();
  set_work(diff, chosen, [options] {
    const std::string differences = differences_of(options->path, options->other);
    print_output(differences.empty() ? "the two checkpoints hold the same\n" : differences);
    return differences.empty() ? 0 : 1;
  });

  CLI::App& prune_command = add("prune", "Remove checkpoints, and what killed runs have left");
  prune_command.add_option("folder", options->path, "the folder of --checkpoint-dir")->required();
  CLI::Option* keep =
      prune_command.add_option("--keep", options->keep.newest, "keep so many checkpoints, the newest (default: all)");
  prune_command.add_option("--keep-every", options->keep.every, "keep those of every so many steps besides")
      ->needs(keep);
  prune_command.add_option("--after", options->prune.after, "remove those of later steps than this one");
  prune_command.add_flag("--damaged", options->prune.damaged, "remove those that a run has put aside");
  prune_command.add_flag("--dry-run", options->prune.dry_run, "only say what would be removed");
  prune_command.callback([&chosen, options, keep] {
    if (keep->count() > 0) options->prune.keep = options->keep;
    chosen = [options](Communicator& ranks) {
      return ranks.rank() == 0 ? print(prune(options->path, options->prune)) : 0;
    };
  });
}

}  // namespace lockstep
