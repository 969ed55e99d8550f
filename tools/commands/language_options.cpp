// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <set>

#include "kernels/device/known_name.h"
#include "runtime/data/tokens/token_loader.h"
#include "tools/commands/command_line.h"
#include "tools/planning/config_file.h"
#include "tools/training/tasks/chosen_model.h"

namespace lockstep {
namespace {

constexpr int64_t kLanguageBatch = 16;  // samples

template <class T>
void add_setting(CLI::App& command, ModelOptions& options, const char* name, T TransformerSettings::*setting,
                 const char* help) {
  command
      .add_option_function<T>(
          str("--model.", name),
          [&options, setting](const T& value) {
            options.changes.push_back([setting, value](TransformerSettings& s) { s.*setting = value; });
          },
          help)
      ->group("Settings of a language model (docs/language-models.md)");
}

struct NamedFamily {
  const char* name;
  TransformerFamily family;
};
constexpr NamedFamily kFamilies[] = {{"gpt", TransformerFamily::gpt}, {"llama", TransformerFamily::llama}};
constexpr const char* to_string(const NamedFamily& family) { return family.name; }

// Adds the names of options that have a section, of a command and of those below it.
void add_keys(const CLI::App& command, std::set<std::string>& keys) {
  for (const CLI::Option* option : command.get_options())
    for (const std::string& name : option->get_lnames())
      if (name.find('.') != name.npos) keys.insert(name);
  for (const CLI::App* below : command.get_subcommands([](const CLI::App*) { return true; })) add_keys(*below, keys);
}

// Those of all commands that read such files.
std::vector<std::string> known_keys(const CLI::App& command) {
  const CLI::App* program = &command;
  while (program->get_parent() != nullptr) program = program->get_parent();
  std::set<std::string> keys;
  add_keys(*program, keys);
  return {keys.begin(), keys.end()};
}

void set_option(CLI::Option& option, const ConfigEntry& entry) {
  try {
    for (const std::string& value : entry.values) option.add_result(value);
    option.run_callback();
  } catch (const CLI::ParseError& error) {
    fail(ErrorCode::usage, str(entry.where, ": ", entry.key, ": ", error.what()));
  }
}

}  // namespace

void add_config_option(CLI::App& command) {
  command.add_option("--config",
                     "read settings from the sections of this TOML file; --section.key=value, or the option "
                     "itself, goes before them (docs/language-models.md)");
}

void read_config(CLI::App& command) {
  const CLI::Option& config = *command.get_option("--config");
  if (config.count() == 0) return;
  const std::vector<std::string> keys = known_keys(command);
  const std::vector<std::string_view> known(keys.begin(), keys.end());
  std::set<const CLI::Option*> typed;
  for (const CLI::Option* option : command.get_options())
    if (option->count() > 0) typed.insert(option);
  for (const ConfigEntry& entry : read_config_file(config.results().back())) {
    check_known(str("key (", entry.where, ")"), entry.key, known, "docs/language-models.md lists them");
    CLI::Option* option = command.get_option_no_throw("--" + entry.key);
    if (option == nullptr || typed.contains(option)) continue;  // another command's, or overridden
    const auto& others = option->get_excludes();
    if (std::ranges::any_of(others, [&](const CLI::Option* other) { return typed.contains(other); })) continue;
    for (const CLI::Option* other : others)
      check(other->count() == 0, ErrorCode::usage, [&] {
        return str(entry.where, ": ", entry.key, " and ", other->get_name(),
                   " say the same in two ways, expected one of them; leave one out");
      });
    set_option(*option, entry);
  }
}

void add_model_options(CLI::App& command, ModelOptions& options) {
  command.add_option("--model,--model.preset", options.name, "model: " + model_choices())->capture_default_str();
  add_language_settings(command, options);
}

void add_language_settings(CLI::App& command, ModelOptions& options) {
  command
      .add_option_function<std::string>(
          "--model.family",
          [&options](const std::string& name) {
            const TransformerFamily family = parse_choice("--model.family", name, kFamilies).family;
            options.changes.push_back([family](TransformerSettings& s) { s.family = family; });
          },
          "gpt | llama")
      ->group("Settings of a language model (docs/language-models.md)");
  using S = TransformerSettings;
  add_setting(command, options, "vocab_size", &S::vocab_size, "tokens that there are");
  add_setting(command, options, "block_size", &S::block_size, "tokens of a sample, at most");
  add_setting(command, options, "n_layer", &S::n_layer, "blocks");
  add_setting(command, options, "n_head", &S::n_head, "heads of attention");
  add_setting(command, options, "n_kv_head", &S::n_kv_head, "heads of keys and values (llama; 0: n_head)");
  add_setting(command, options, "n_embd", &S::n_embd, "width between blocks");
  add_setting(command, options, "n_inner", &S::n_inner, "width inside of a block (0: by family)");
  add_setting(command, options, "norm_epsilon", &S::norm_epsilon, "added to variances");
  add_setting(command, options, "rope_theta", &S::rope_theta, "base of rotary positions (llama)");
  add_setting(command, options, "tied", &S::tied, "use the table of tokens as the classifier, too: true | false");
  add_setting(command, options, "recompute", &S::recompute,
              "keep less memory and compute blocks twice: true | false; the same bits");
  command
      .add_option("--sequence,--data.sequence", options.sequence,
                  "tokens of a sample of a language model (0: the model's block_size)")
      ->capture_default_str();
}

void add_activation_options(CLI::App& command, ModelOptions& options, PlanSettings& plan) {
  add_choice(command, "--activations,--train.activations", plan.activations, kStorageDTypes,
             "keep activations of a language model, and their gradients, in: f32 | bf16 (docs/precision.md)");
  command
      .add_option("--dropout,--model.dropout", options.dropout, "drop this share of activations in training, in [0, 1)")
      ->capture_default_str();
}

CLI::Option* add_batch_tokens_option(CLI::App& command, int64_t& tokens) {
  return command.add_option("--batch-tokens,--train.batch_tokens", tokens,
                            "tokens of a step of a language model, in place of samples");
}

void finish_model_options(CLI::App& command, ModelOptions& options) {
  if (!options.changes.empty() && command.count("--model") == 0) options.name = "gpt-mini";
  if (options.changes.empty() && options.sequence == 0 && !shipped_transformer(options.name)) return;
  const std::optional<TransformerSettings> settings = language_settings(options);
  if (!settings || command.get_option_no_throw("--optimizer") == nullptr) return;
  if (command.count("--optimizer") == 0) options.optimizer = "adamw";
  if (options.optimizer != "adamw") return;
  options.hyperparameters.emplace("learning_rate", settings->n_embd < 768 ? 1e-3 : 6e-4);
  options.hyperparameters.emplace("beta_2", 0.95);
  options.hyperparameters.emplace("weight_decay", 0.1);
}

int64_t batch_of(const ModelOptions& options, int64_t samples, int64_t tokens, int64_t of_images) {
  const std::optional<TransformerSettings> settings = language_settings(options);
  check(settings || tokens == 0, ErrorCode::usage,
        "--batch-tokens is for language models; give --batch, in images, to a model of images");
  if (tokens != 0) return samples_of_batch(tokens, sequence_of(*settings, options.sequence));
  if (samples != 0) return samples;
  return settings ? kLanguageBatch : of_images;
}

}  // namespace lockstep
