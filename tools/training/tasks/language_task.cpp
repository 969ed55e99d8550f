// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <numbers>
#include <optional>

#include "runtime/language/save_trained.h"
#include "runtime/language/text_writer.h"
#include "runtime/text/tokenizer.h"
#include "tools/training/tasks/chosen_model.h"
#include "tools/training/tasks/evaluate_tokens.h"
#include "tools/training/tasks/training_task.h"

namespace lockstep {
namespace {

void check_vocabulary(const TokenDataset& data, const TransformerSettings& settings) {
  for (const TokenFile& file : data.files())
    check(!file.header() || file.header()->vocabulary <= settings.vocab_size, ErrorCode::usage, [&] {
      return str("'", file.path(), "' was encoded with a vocabulary of ", file.header()->vocabulary,
                 ", but the model has model.vocab_size ", settings.vocab_size,
                 "; use --model.vocab_size=", file.header()->vocabulary, ", or tokens of another tokenizer");
    });
}

// Collective: every rank reads a part of the tokens; the sum of what they find is that of all.
uint64_t scan_together(Communicator& ranks, const TokenDataset& data, int64_t vocabulary) {
  const uint64_t mine = data.scan(vocabulary, ranks.rank(), ranks.size()).content_hash;
  uint64_t sum = 0;
  for (const std::string& text : ranks.all_gather_bytes(str(mine))) sum += std::stoull(text);
  return sum;
}

class LanguageTask final : public TrainingTask {
 public:
  LanguageTask(Communicator& ranks, const TransformerSettings& settings, int64_t sequence, const DataOptions& options)
      : settings_(settings), sequence_(sequence) {
    if (!options.files.empty()) training_.emplace(options.files, sequence);
    if (!options.validation.empty()) validation_.emplace(options.validation, sequence);
    if (!options.tokenizer.empty()) tokenizer_ = Tokenizer::load(options.tokenizer);
    const std::optional<Tokenizer>& tokenizer = tokenizer_;
    for (const std::optional<TokenDataset>* data : {&training_, &validation_}) {
      if (!*data) continue;
      check_vocabulary(**data, settings);
      if (tokenizer) (*data)->check_tokenizer(tokenizer->hash(), tokenizer->vocabulary());
    }
    if (tokenizer)
      check(tokenizer->vocabulary() <= settings.vocab_size, ErrorCode::usage, [&] {
        return str("--tokenizer '", options.tokenizer, "' has a vocabulary of ", tokenizer->vocabulary(),
                   ", but the model has model.vocab_size ", settings.vocab_size,
                   "; use --model.vocab_size=", tokenizer->vocabulary(), ", or the model's tokenizer");
      });
    // A number that no token has must not be trained on, though the model has room for it.
    const int64_t vocabulary = tokenizer ? tokenizer->vocabulary() : settings.vocab_size;
    for (const std::optional<TokenDataset>* data : {&training_, &validation_})
      if (*data) hash_ = hash_ * 0x9e3779b97f4a7c15 + scan_together(ranks, **data, vocabulary);
    if (!validation_) return;
    scored_ = validation_->samples();
    if (options.eval_tokens > 0) scored_ = std::clamp<int64_t>(options.eval_tokens / sequence, 1, scored_);
    if (tokenizer) count_bytes(*tokenizer);
  }

  std::vector<NamedFile> inputs() const override {
    std::vector<NamedFile> inputs;
    if (training_)
      for (const TokenFile& file : training_->files()) inputs.push_back({"--data", file.path()});
    if (validation_)
      for (const TokenFile& file : validation_->files()) inputs.push_back({"--validation", file.path()});
    return inputs;
  }
  uint64_t content_hash() const override { return hash_; }
  int64_t samples() const override { return training_->samples(); }
  std::unique_ptr<BatchSource> batches(const LoaderSettings& settings) const override {
    return token_batches(*training_, settings);
  }
  ProgressWords words() const override {
    return {.unit = "tokens", .units_per_sample = sequence_, .share_name = "", .share_sum = "", .recent_loss = true};
  }
  // The customary one: up in the first twentieth, then half a cosine down to a tenth.
  std::string default_schedule(int64_t steps) const override {
    if (steps < 20) return "";
    return fmt::format("cosine(steps={}, warmup_steps={}, alpha=0.1)", steps, std::min<int64_t>(steps / 20, 2000));
  }
  void save(const std::string& path, const Model& model, const VariableStore& variables) const override {
    if (path.ends_with('/') || path.ends_with(".safetensors"))
      save_trained(path, settings_, variables, tokenizer_ ? &*tokenizer_ : nullptr);
    else
      save_weights(path, model, variables);
  }
  void check_sample(const SampleRequest& asked) const override {
    if (asked.every == 0) return;
    check(tokenizer_.has_value(), ErrorCode::usage,
          "--sample-every writes texts, which takes the tokenizer of the model's tokens; give --tokenizer");
    Pool pool({});
    Stream stream = Stream::cpu();
    const Model model = make_transformer("unused", settings_);
    TextGenerator generator(model, settings_, {}, stream, pool);
    generator.check_prompt(TextWriter(generator, *tokenizer_).tokens_of(asked.prompt));
  }
  std::string sample(const SampleRequest& asked, uint64_t seed, const Model& model, const VariableStore& variables,
                     int threads) const override {
    Pool pool({});
    Stream stream = Stream::cpu(threads);
    std::deque<HostValue> kept;
    std::vector<Tensor> values;
    for (const VariableDeclaration& declared : model.variables.declarations())
      values.push_back(Tensor::borrow(kept.emplace_back(variables.host(variables.plan().at(declared.path))).view()));
    TextGenerator generator(model, settings_, values, stream, pool);
    std::string text;
    TextWriter(generator, *tokenizer_).go_on(asked.prompt, asked.tokens, {.seed = seed}, [&](const std::string& more) {
      text += more;
    });
    return text;
  }
  bool can_score() const override { return validation_.has_value(); }
  Score score(const JudgedModel& judged) const override {
    if (!validation_) return {.text = "", .counts = "", .numbers = {}};
    const double loss = evaluate_tokens(judged, *validation_, scored_), perplexity = std::exp(loss);
    const int64_t tokens = scored_ * sequence_;
    Score score{.text = fmt::format("validation_loss={:.4f} perplexity={:.2f}", loss, perplexity),
                .counts = fmt::format("tokens={}", tokens),
                .numbers = {{"validation_loss", loss}, {"perplexity", perplexity}}};
    if (bytes_ > 0) {
      const double bits = loss * double(tokens) / std::numbers::ln2 / double(bytes_);
      score.text += fmt::format(" bits_per_byte={:.4f}", bits);
      score.counts += fmt::format(" bytes={}", bytes_);
      score.numbers["bits_per_byte"] = bits;
    }
    return score;
  }

 private:
  // Bytes of the text that the targets stand for: the end of a text costs bits, and has no bytes.
  void count_bytes(const Tokenizer& tokenizer) {
    std::vector<int64_t> bytes;
    for (int32_t token = 0; token < tokenizer.vocabulary(); ++token)
      bytes.push_back(int64_t(tokenizer.bytes_of(token).size()));
    if (const std::optional<int32_t> end = tokenizer.end_of_text()) bytes[size_t(*end)] = 0;
    std::vector<int32_t> tokens(static_cast<size_t>(sequence_)), targets(tokens.size());
    for (int64_t sample = 0; sample < scored_; ++sample) {
      validation_->read(sample, tokens, targets);
      for (const int32_t token : targets) bytes_ += bytes[size_t(token)];
    }
  }

  TransformerSettings settings_;
  int64_t sequence_;
  std::optional<Tokenizer> tokenizer_;
  std::optional<TokenDataset> training_, validation_;
  uint64_t hash_ = 0;
  int64_t scored_ = 0;  // samples of validation_
  int64_t bytes_ = 0;   // that they stand for; 0 where no tokenizer says so
};

}  // namespace

std::unique_ptr<TrainingTask> make_language_task(Communicator& ranks, const TransformerSettings& settings,
                                                 int64_t sequence, const DataOptions& data) {
  check(data.classes == 0, ErrorCode::usage, "--classes is for models of images; leave it out with a language model");
  check(data.eval_tokens >= 0, ErrorCode::usage,
        [&] { return str("--eval-tokens: expected 0, for all, or more, got ", data.eval_tokens); });
  return std::make_unique<LanguageTask>(ranks, settings, sequence, data);
}

std::unique_ptr<TrainingTask> make_task(Communicator& ranks, const ModelOptions& model, const DataOptions& data) {
  if (const std::optional<TransformerSettings> settings = language_settings(model))
    return make_language_task(ranks, *settings, sequence_of(*settings, model.sequence), data);
  return make_image_task(data);
}

}  // namespace lockstep
