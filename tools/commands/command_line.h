// SPDX-License-Identifier: Apache-2.0
// The command line: every sub-command declares its options and what it does with them.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "collectives/communicator.h"
#include "kernels/device/known_name.h"
#include "tools/training/train_options.h"

namespace lockstep {

// What a sub-command does on the ranks that the launcher started, or on one; it returns the exit code.
using Command = std::function<int(Communicator&)>;

// Each adds its sub-command to `app`; parsing it sets `chosen`.
void add_train_command(CLI::App& app, Command& chosen);
void add_eval_command(CLI::App& app, Command& chosen);
void add_bench_command(CLI::App& app, Command& chosen);
void add_explain_command(CLI::App& app, Command& chosen);
void add_plan_command(CLI::App& app, Command& chosen);
void add_plot_command(CLI::App& app, Command& chosen);
void add_tokenize_command(CLI::App& app, Command& chosen);
void add_convert_command(CLI::App& app, Command& chosen);
void add_sample_command(CLI::App& app, Command& chosen);
void add_checkpoint_command(CLI::App& app, Command& chosen);
void add_diff_command(CLI::App& app, Command& chosen);
void add_doctor_command(CLI::App& app, Command& chosen);
// `training`: what the command line has behind "--", which outlives the command.
void add_run_command(CLI::App& app, Command& chosen, const std::vector<std::string>& training);
// Takes that off the words of a command line without the program's name, where they are of `run`.
std::vector<std::string> cut_training_off(std::vector<std::string>& words);

// Adds the model and the settings of language models; the second adds the settings alone.
void add_model_options(CLI::App& command, ModelOptions& options);
void add_language_settings(CLI::App& command, ModelOptions& options);
// Adds --activations, and --dropout.
void add_activation_options(CLI::App& command, ModelOptions& options, PlanSettings& plan);
// Adds --config; read_config() then gives what its file says to all options that the command line does not have, by
// their names of the form section.key. Error(file, data, usage) names file and line.
void add_config_option(CLI::App& command);
void read_config(CLI::App& command);
// Once all options are known: a language model that is only described is gpt-mini otherwise, and it has an optimizer
// of its own where the user says nothing. Error(usage) for settings that contradict each other.
void finish_model_options(CLI::App& command, ModelOptions& options);
// The batch in tokens, and the samples of a step by what was asked for, where 0 says nothing; `of_images` is the
// default of other models.
CLI::Option* add_batch_tokens_option(CLI::App& command, int64_t& tokens);
int64_t batch_of(const ModelOptions& options, int64_t samples, int64_t tokens, int64_t of_images);
// Adds the options of train, plan and explain that decide the plan.
void add_plan_options(CLI::App& command, ModelOptions& model, PlanSettings& plan);
// Adds the options of plan and explain alone, which plan for ranks that need not exist.
struct ForecastOptions;
void add_forecast_options(CLI::App& command, ForecastOptions& options);
void finish_forecast_options(CLI::App& command, ForecastOptions& options);  // when all are known

// Adds an option for one of a closed set of values, whose names to_string() gives. The text is read here and nowhere
// else, so a command works with types. Parsing throws Error(usage) that lists the names.
template <class T, size_t N>
CLI::Option* add_choice(CLI::App& command, const std::string& flag, T& value, const T (&choices)[N],
                        const std::string& help) {
  return command
      .add_option_function<std::string>(
          flag,
          [option = flag.substr(0, flag.find(',')), &value, &choices](const std::string& name) {
            value = parse_choice(option, name, choices);
          },
          help)
      ->default_str(std::string(to_string(value)));
}
// Adds an option for bytes, given in MiB.
CLI::Option* add_mib_option(CLI::App& command, const char* flag, int64_t& bytes, const std::string& help);
// Lists the models: "mlp | cnn".
std::string model_choices();
// Adds the option for how gradients travel between GPUs.
CLI::Option* add_transport_option(CLI::App& command, DeviceTransport& transport, const std::string& help);

}  // namespace lockstep
