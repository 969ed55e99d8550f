// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <unistd.h>

#include <iostream>

#include "runtime/files/standard_output.h"
#include "runtime/language/language_model.h"
#include "runtime/language/text_generator.h"
#include "runtime/language/text_writer.h"
#include "runtime/run_device.h"
#include "tools/commands/command_line.h"

namespace lockstep {
namespace {

struct SampleOptions {
  std::string weights, tokenizer, prompt;
  int64_t tokens = 200;
  Sampling sampling;
  int64_t seed = 1, threads = 0;
  bool interactive = false;
};

// Writes texts that go on from prompts to standard output, as their tokens come.
class Speaker {
 public:
  Speaker(const LanguageModel& model, const Tokenizer& tokenizer, const SampleOptions& options, Stream& stream,
          Pool& pool)
      : options_(options),
        generator_(model.model, model.settings, model.values, stream, pool),
        writer_(generator_, tokenizer, model.ends) {}

  void go_on(const std::string& prompt) {
    writer_.go_on(prompt, options_.tokens, options_.sampling, [](const std::string& text) {
      print_output(text);
      flush_output();
    });
    print_output("\n");
    flush_output();
  }

 private:
  const SampleOptions& options_;
  TextGenerator generator_;
  TextWriter writer_;
};

// Every line is a prompt; what cannot be gone on with is said and the next line is read.
void converse(Speaker& speaker) {
  const bool terminal = isatty(STDIN_FILENO) != 0;
  std::string line;
  for (;;) {
    if (terminal) print_output("> ");
    flush_output();
    if (!std::getline(std::cin, line)) return;
    try {
      speaker.go_on(line);
    } catch (const Error& error) {
      if (error.code() != ErrorCode::usage) throw;
      print_remark(fmt::format("lockstep: {}\n", error.what()));
    }
  }
}

void run_sample(SampleOptions options, Communicator& communicator) {
  check_threads(options.threads);
  check(options.tokens > 0, ErrorCode::usage,
        [&] { return str("--tokens: expected a number of at least 1, got ", options.tokens); });
  check(options.seed >= 0, ErrorCode::usage,
        [&] { return str("--seed: expected a number of at least 0, got ", options.seed); });
  options.sampling.seed = uint64_t(options.seed);
  check_sampling(options.sampling);
  const int threads = options.threads > 0 ? int(options.threads) : default_threads(communicator);
  if (communicator.rank() != 0) return;
  const std::string tokenizer_path = options.tokenizer.empty() ? options.weights : options.tokenizer;
  check(!options.tokenizer.empty() || holds_tokenizer(options.weights), ErrorCode::usage,
        [&] { return str("'", options.weights, "' comes without a tokenizer; name its folder with --tokenizer"); });
  Pool pool({});
  Stream stream = Stream::cpu(threads);
  const LanguageModel model = load_language_model(options.weights, pool);
  const Tokenizer tokenizer = Tokenizer::load(tokenizer_path);
  check_tokenizer(model, options.weights, tokenizer, tokenizer_path);
  Speaker speaker(model, tokenizer, options, stream, pool);
  options.interactive ? converse(speaker) : speaker.go_on(options.prompt);
}

}  // namespace

void add_sample_command(CLI::App& app, Command& chosen) {
  auto options = std::make_shared<SampleOptions>();
  CLI::App& command = *app.add_subcommand("sample", "Let a language model go on with a text");
  command.add_option("--weights", options->weights, "the model: a folder with config.json, or a safetensors file")
      ->required();
  command.add_option("--tokenizer", options->tokenizer,
                     "the tokenizer, a folder or file (default: that of the weights)");
  command.add_option("--prompt", options->prompt, "go on with this text (default: begin one)");
  command.add_option("--tokens", options->tokens, "go on for up to so many tokens")->capture_default_str();
  command
      .add_option("--temperature", options->sampling.temperature,
                  "divide logits by this (0: always the most likely token)")
      ->capture_default_str();
  command.add_option("--top-k", options->sampling.top_k, "choose among the so many most likely tokens (0: all)")
      ->capture_default_str();
  command
      .add_option("--top-p", options->sampling.top_p,
                  "choose among the most likely tokens that make up this probability")
      ->capture_default_str();
  command.add_option("--seed", options->seed, "repeat the text of this number")->capture_default_str();
  command.add_flag("--interactive", options->interactive, "take every line of standard input for a prompt");
  command.add_option("--threads", options->threads, "use so many (0: the cores that it may use)")
      ->capture_default_str();
  command.callback([&chosen, options] { chosen = [options](Communicator& c) { return run_sample(*options, c), 0; }; });
}

}  // namespace lockstep
