// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <filesystem>
#include <optional>

#include "runtime/files/file_identity.h"
#include "runtime/files/standard_output.h"
#include "runtime/language/language_model.h"
#include "tools/commands/command_line.h"

namespace lockstep {
namespace {

struct ConvertOptions {
  std::string from, to, tokenizer;
  int64_t shard_mib = 0;
};

bool names_file(const std::string& path) { return path.ends_with(".safetensors"); }

// The files of a folder, or the file itself: none of them may be written over.
std::vector<NamedFile> files_in(const char* what, const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_directory(path, error)) return {{what, path}};
  std::vector<NamedFile> files;
  for (std::filesystem::directory_iterator entry(path, error), end; !error && entry != end; entry.increment(error))
    files.push_back({what, entry->path()});
  return files;
}

std::optional<Tokenizer> tokenizer_for(const ConvertOptions& options) {
  if (!options.tokenizer.empty()) return Tokenizer::load(options.tokenizer);
  if (holds_tokenizer(options.from)) return Tokenizer::load(options.from);
  return std::nullopt;
}

void check_outputs_of(const ConvertOptions& options, std::span<const NamedTensor> tensors, bool tokenizer,
                      const DirectoryOptions& directory) {
  std::vector<NamedFile> inputs = files_in("the model to convert", options.from), outputs;
  if (!options.tokenizer.empty())
    for (NamedFile& file : files_in("the tokenizer of --tokenizer", options.tokenizer)) inputs.push_back(file);
  std::vector<std::string> paths{options.to};
  if (!names_file(options.to)) {
    paths = directory_files(options.to, tensors, directory);
    if (tokenizer)
      for (const char* name : {"/tokenizer.json", "/tokenizer_config.json"}) paths.push_back(options.to + name);
  }
  for (const std::string& path : paths) outputs.push_back({"the output", path});
  check_separate(outputs, inputs);
}

void run_convert(const ConvertOptions& options, Communicator& communicator) {
  check(options.shard_mib >= 0, ErrorCode::usage,
        [&] { return str("--shard-mib: expected 0 (5 GB) or more, got ", options.shard_mib); });
  if (communicator.rank() != 0) return;
  Pool pool({});
  const LanguageModel model = load_language_model(options.from, pool);
  const std::vector<NamedTensor> tensors = model.tensors();
  const std::optional<Tokenizer> tokenizer = tokenizer_for(options);
  if (tokenizer)
    check_tokenizer(model, options.from, *tokenizer, options.tokenizer.empty() ? options.from : options.tokenizer);
  DirectoryOptions directory;
  if (options.shard_mib > 0) directory.most_shard_bytes = options.shard_mib << 20;
  if (!model.ends.empty()) directory.end_of_text = model.ends.front();
  check_outputs_of(options, tensors, tokenizer.has_value(), directory);
  if (names_file(options.to))
    save_model_file(options.to, model.settings, tensors, tokenizer ? hash_text(*tokenizer) : model.tokenizer_hash,
                    tokenizer ? tokenizer->end_of_text() : directory.end_of_text);
  else
    save_directory(options.to, model.settings, tensors, tokenizer ? &*tokenizer : nullptr, directory);
  print_output(fmt::format("{}: {} model, {} parameters in {} tensors, {}\n", options.to,
                           model.settings.family == TransformerFamily::gpt ? "GPT-2" : "Llama",
                           model.model.variables.parameter_count(), tensors.size(),
                           tokenizer ? str("tokenizer ", hash_text(*tokenizer)) : "no tokenizer"));
}

}  // namespace

void add_convert_command(CLI::App& app, Command& chosen) {
  auto options = std::make_shared<ConvertOptions>();
  CLI::App& command =
      *app.add_subcommand("convert", "Turn a language model of Hugging Face into one of Lockstep, and back");
  command.add_option("from", options->from, "a folder with config.json, or a safetensors file of a language model")
      ->required();
  command.add_option("to", options->to, "write this folder, or this file where it ends in .safetensors")->required();
  command.add_option("--tokenizer", options->tokenizer,
                     "the tokenizer of the model, a folder or file (default: that of the folder, if it has one)");
  command.add_option("--shard-mib", options->shard_mib, "split weights into files of up to so many MiB (0: 5 GB)")
      ->capture_default_str();
  command.callback([&chosen, options] { chosen = [options](Communicator& c) { return run_convert(*options, c), 0; }; });
}

}  // namespace lockstep
