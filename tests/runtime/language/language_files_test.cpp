// SPDX-License-Identifier: Apache-2.0
// Language models from files and to files: folders that transformers has written, what comes back, and folders that
// should be refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "collectives/host/thread_ranks.h"
#include "runtime/language/model_config.h"
#include "runtime/language/save_trained.h"
#include "runtime/trainer.h"
#include "tests/runtime/language/exchange_case.h"

namespace lockstep {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

const std::string kFixtures = std::string(LOCKSTEP_SOURCE_DIR) + "/tests/runtime/language/";

class LanguageFiles : public testing::Test {
 protected:
  LanguageFiles() {
    std::string name = testing::TempDir() + "/language.XXXXXX";
    folder_ = mkdtemp(name.data());
  }
  ~LanguageFiles() override { fs::remove_all(folder_); }

  std::string path(const std::string& name) const { return folder_ + "/" + name; }
  // A copy of a fixture that a test may spoil.
  std::string copy_of(const std::string& fixture) const {
    fs::copy(kFixtures + fixture, path(fixture), fs::copy_options::recursive | fs::copy_options::overwrite_existing);
    return path(fixture);
  }
  LanguageModel load(const std::string& name) { return load_language_model(name, pool_); }

  std::string folder_;
  Pool pool_{Device{}};
};

std::string content(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write(const std::string& path, const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

// The config.json of a fixture with some keys changed; null takes one away.
void change_config(const std::string& folder, const nlohmann::json& changes) {
  nlohmann::json config = nlohmann::json::parse(content(folder + "/config.json"));
  config.merge_patch(changes);
  write(folder + "/config.json", config.dump());
}

std::vector<std::string> bytes_of(const LanguageModel& model) {
  std::vector<std::string> bytes;
  for (const Tensor& value : model.values) {
    const ConstView view = value;
    bytes.emplace_back(static_cast<const char*>(view.data), size_t(view.bytes()));
  }
  return bytes;
}

// A model's file with some tensors changed: names map to new names, or to "" to leave them out.
void rewrite(const std::string& path, const std::map<std::string, std::string>& names,
             const std::vector<NamedTensor>& more = {}) {
  std::vector<NamedTensor> tensors = more;
  std::vector<std::string> values;
  {
    const SafetensorsFile file(path);
    values.reserve(file.tensors().size());
    for (const StoredTensor& tensor : file.tensors()) {
      const auto renamed = names.find(tensor.name);
      const std::string name = renamed == names.end() ? tensor.name : renamed->second;
      if (name.empty()) continue;
      std::string& bytes = values.emplace_back(size_t(tensor.bytes), '\0');
      file.read(tensor.name, std::as_writable_bytes(std::span(bytes)));
      tensors.push_back({name, tensor.dtype, tensor.shape, bytes.data()});
    }
  }
  write_safetensors(path, tensors);
}

TEST_F(LanguageFiles, HaveTheLogitsAndGreedyTokensOfTransformers) {
  for (const char* name : {"gpt2", "llama"}) {
    ExchangeCase exchange(kFixtures + name, kFixtures + name + "/expected.safetensors");
    for (const auto& [what, difference] : exchange.differences()) EXPECT_LE(difference, 1e-5) << name << ": " << what;
    EXPECT_EQ(exchange.greedy(), exchange.expected_greedy()) << name;
    EXPECT_EQ(exchange.expected_greedy().size(), 64u);
    EXPECT_EQ(exchange.model().ends, std::vector<int32_t>{0}) << name;
  }
}

TEST_F(LanguageFiles, ComeBackWithTheirBytes) {
  const Tokenizer tokenizer = Tokenizer::load(kFixtures + "gpt2");
  for (const char* name : {"gpt2", "llama"}) {
    const LanguageModel model = load(kFixtures + name);
    const std::string whole = path(std::string(name) + "/made/whole"), shards = path("shards"), file = path("file");
    save_directory(whole, model.settings, model.tensors(), &tokenizer);
    save_directory(shards, model.settings, model.tensors(), nullptr,
                   {.most_shard_bytes = 20'000, .end_of_text = model.ends.front()});
    save_model_file(file, model.settings, model.tensors(), "", model.ends.front());
    EXPECT_FALSE(fs::exists(shards + "/model.safetensors"));
    EXPECT_TRUE(fs::exists(shards + "/model-00002-of-00002.safetensors") ||
                fs::exists(shards + "/model-00003-of-00003.safetensors"));
    for (const std::string& written : {whole, shards, file}) {
      const LanguageModel again = load(written);
      EXPECT_EQ(bytes_of(again), bytes_of(model)) << written;
      EXPECT_EQ(model_config_json(again.settings, 0), model_config_json(model.settings, 0)) << written;
    }
    EXPECT_EQ(load(shards).ends, std::vector<int32_t>{0});
    EXPECT_EQ(load(file).ends, std::vector<int32_t>{0});
    EXPECT_EQ(load(whole).tokenizer_hash, hash_text(tokenizer));
    EXPECT_EQ(Tokenizer::load(whole).hash(), tokenizer.hash());
    // The bytes of the fixture's own file, too, where it has f32.
    if (name == std::string("gpt2")) {
      const SafetensorsFile theirs(kFixtures + name + "/model.safetensors"), ours(whole + "/model.safetensors");
      ASSERT_EQ(ours.tensors().size(), theirs.tensors().size());
      EXPECT_EQ(ours.metadata().at("format"), "pt");
      for (const StoredTensor& tensor : theirs.tensors()) {
        std::string expected(size_t(tensor.bytes), '\0'), got = expected;
        theirs.read(tensor.name, std::as_writable_bytes(std::span(expected)));
        ours.read(tensor.name, std::as_writable_bytes(std::span(got)));
        EXPECT_EQ(got, expected) << tensor.name;
      }
    }
    fs::remove_all(shards);
  }
}

TEST_F(LanguageFiles, MayHaveOlderNamesMasksAndATiedClassifier) {
  const std::string folder = copy_of("gpt2"), file = folder + "/model.safetensors";
  const LanguageModel model = load(folder);
  std::map<std::string, std::string> short_names;
  const SafetensorsFile before(file);
  for (const StoredTensor& tensor : before.tensors())
    short_names[tensor.name] = tensor.name.substr(tensor.name.find('.') + 1);
  const std::vector<float> mask(80 * 80, 1);
  const float number = -1e4f;
  rewrite(file, short_names,
          {{"h.0.attn.bias", DType::f32, {1, 1, 80, 80}, mask.data()},
           {"h.0.attn.masked_bias", DType::f32, {}, &number},
           {"lm_head.weight", DType::f32, {300, 16}, View(model.values.front()).data}});
  EXPECT_EQ(bytes_of(load(folder)), bytes_of(model));

  std::vector<float> other(300 * 16, 0.5f);
  rewrite(file, {{"lm_head.weight", ""}}, {{"lm_head.weight", DType::f32, {300, 16}, other.data()}});
  EXPECT_THAT([&] { load(folder); },
              ThrowsMessage<Error>(AllOf(HasSubstr(file), HasSubstr("'lm_head.weight' that differs"))));
}

TEST_F(LanguageFiles, NameTensorsThatDoNotFit) {
  const std::string folder = copy_of("gpt2"), file = folder + "/model.safetensors";
  const std::vector<float> some(16, 1);
  const std::vector<int32_t> whole(16, 1);
  rewrite(file,
          {{"transformer.ln_f.weight", ""},
           {"transformer.ln_f.bias", ""},
           {"transformer.h.0.ln_1.bias", "transformer.h.0.ln_3.bias"}},
          {{"transformer.ln_f.weight", DType::f32, {4, 4}, some.data()},
           {"transformer.ln_f.bias", DType::i32, {16}, whole.data()}});
  EXPECT_THAT(
      [&] { load(folder); },
      ThrowsMessage<Error>(AllOf(HasSubstr("'" + file + "' does not hold the weights of a GPT-2 model"),
                                 HasSubstr("transformer.h.0.ln_1.bias is missing"),
                                 HasSubstr("transformer.h.0.ln_3.bias is no variable"),
                                 HasSubstr("transformer.ln_f.weight is f32 [4, 4], expected f32 [16]"),
                                 HasSubstr("transformer.ln_f.bias is i32 [16], expected f32 [16] (or bf16, f16)"))));
  change_config(folder, {{"n_layer", 3}});
  EXPECT_THAT([&] { load(folder); }, ThrowsMessage<Error>(HasSubstr("; and ")));
}

TEST_F(LanguageFiles, RefuseSettingsThatComputeSomethingElse) {
  const std::vector<std::tuple<std::string, nlohmann::json, std::string>> cases{
      {"gpt2", {{"model_type", "bert"}}, "model_type: expected gpt2 or llama"},
      {"gpt2", {{"architectures", {"GPT2DoubleHeadsModel"}}}, "architectures: expected [\"GPT2LMHeadModel\"]"},
      {"gpt2",
       {{"activation_function", "relu"}},
       "activation_function: expected gelu_new or gelu_pytorch_tanh, got \"relu\""},
      {"gpt2",
       {{"scale_attn_by_inverse_layer_idx", true}},
       "scale_attn_by_inverse_layer_idx: expected false, got true"},
      {"gpt2", {{"n_ctx", 64}}, "n_ctx: expected 80, as n_positions says, got 64"},
      {"gpt2", {{"n_head", 3}}, "model.n_embd 16 is not divisible by model.n_head 3"},
      {"gpt2", {{"n_layer", -1}}, "n_layer: expected a whole number from 1"},
      {"gpt2", {{"n_layer", 1000000000}}, "n_layer: expected a whole number from 1"},
      {"gpt2", {{"n_embd", nullptr}}, "has no 'n_embd'"},
      {"gpt2", {{"eos_token_id", 300}}, "eos_token_id: expected tokens below vocab_size 300, got 300"},
      {"gpt2", {{"vocab_size", 301}}, "transformer.wte.weight is f32 [300, 16], expected f32 [301, 16]"},
      {"llama", {{"rope_scaling", {{"rope_type", "yarn"}}}}, "rope_scaling.rope_type: expected default, got \"yarn\""},
      {"llama", {{"rope_theta", 500000}}, "rope_theta: expected 500000, as rope_theta outside says"},
      {"llama", {{"attention_bias", true}}, "attention_bias: expected false"},
      {"llama", {{"head_dim", 8}}, "head_dim: expected 4, as hidden_size / num_attention_heads says, got 8"},
      {"llama", {{"hidden_act", "gelu"}}, "hidden_act: expected silu or swish"},
      {"llama", {{"tie_word_embeddings", true}}, "'lm_head.weight' that differs"},
  };
  for (const auto& [fixture, changes, message] : cases) {
    const std::string folder = copy_of(fixture);
    change_config(folder, changes);
    EXPECT_THAT([&] { load(folder); }, ThrowsMessage<Error>(AllOf(HasSubstr("'" + folder), HasSubstr(message))))
        << changes;
  }
  const std::string folder = copy_of("gpt2");
  for (const char* text : {"", "[]", "{\"model_type\": \"gpt2\"", "{\"model_type\": 3}", "{\"a\": 1, \"a\": 1}"}) {
    write(folder + "/config.json", text);
    EXPECT_THAT([&] { load(folder); }, ThrowsMessage<Error>(HasSubstr("'" + folder + "/config.json'"))) << text;
  }
}

TEST_F(LanguageFiles, RefuseFoldersThatAreNotWhole) {
  EXPECT_THAT([&] { load(path("nowhere")); }, ThrowsMessage<Error>(HasSubstr("nowhere")));
  const std::string folder = copy_of("gpt2"), file = folder + "/model.safetensors", index = file + ".index.json";
  const std::string bytes = content(file);
  write(file, bytes.substr(0, bytes.size() - 100));
  EXPECT_THAT([&] { load(folder); }, ThrowsMessage<Error>(HasSubstr(file)));
  fs::remove(file);
  EXPECT_THAT([&] { load(folder); },
              ThrowsMessage<Error>(HasSubstr("holds no weights: expected model.safetensors or")));
  write(folder + "/pytorch_model.bin", "x");
  EXPECT_THAT([&] { load(folder); },
              ThrowsMessage<Error>(HasSubstr("got pytorch_model.bin; save it again as safetensors")));
  write(folder + "/model-00001-of-00001.safetensors", bytes);
  const std::vector<std::pair<std::string, std::string>> cases{
      {R"({"weight_map": {"transformer.wte.weight": "../model.safetensors"}})",
       "expected the name of a file in the same"},
      {R"({"weight_map": {"transformer.wte.weight": 3}})", "expected a text, got 3"},
      {R"({"weight_map": {}})", "expected tensors, got none"},
      {R"({"weight_map": {"transformer.wte.weight": "absent.safetensors"}})", "absent.safetensors"},
      {R"({"weight_map": {"other": "model-00001-of-00001.safetensors"}})", "has tensor 'other', which it has not"},
  };
  for (const auto& [text, message] : cases) {
    write(index, text);
    EXPECT_THAT([&] { load(folder); }, ThrowsMessage<Error>(HasSubstr(message))) << text;
  }
  // What the index does not list is there all the same.
  write(index, R"({"weight_map": {"transformer.wte.weight": "model-00001-of-00001.safetensors"}})");
  EXPECT_NO_THROW(load(folder));
  write(folder + "/model-00002-of-00002.safetensors", bytes);
  write(index, R"({"weight_map": {"transformer.wte.weight": "model-00001-of-00001.safetensors",
                   "transformer.wpe.weight": "model-00002-of-00002.safetensors"}})");
  EXPECT_THAT([&] { load(folder); }, ThrowsMessage<Error>(HasSubstr("; expected it once")));

  write(path("plain.safetensors"), bytes);
  EXPECT_THAT([&] { load(path("plain.safetensors")); },
              ThrowsMessage<Error>(HasSubstr("does not say the settings of a language model")));
}

TEST_F(LanguageFiles, AreNotWrittenWhereTheyCouldNotBeRead) {
  const LanguageModel model = load(kFixtures + "llama");
  std::vector<NamedTensor> tensors = model.tensors();
  TransformerSettings settings = model.settings;
  settings.rope_pairs = RotaryPairs::neighbours;
  EXPECT_THAT([&] { save_directory(path("new"), settings, tensors, nullptr); },
              ThrowsMessage<Error>(HasSubstr("cannot be expressed in a folder of Hugging Face")));
  save_model_file(path("pairs"), settings, tensors, "");
  EXPECT_EQ(load(path("pairs")).settings.rope_pairs, RotaryPairs::neighbours);
  settings = model.settings, settings.n_layer = 3;
  EXPECT_THAT([&] { save_directory(path("new"), settings, tensors, nullptr); },
              ThrowsMessage<Error>(HasSubstr("has a variable model/layers/2/")));
  tensors.push_back(tensors.back()), tensors.back().name = "more";
  EXPECT_THAT([&] { save_directory(path("new"), model.settings, tensors, nullptr); },
              ThrowsMessage<Error>(HasSubstr("expected the 21 variables of a model, got 22")));
  EXPECT_FALSE(fs::exists(path("new")));
  save_directory(path("new"), model.settings, model.tensors(), nullptr);
  EXPECT_THAT(
      [&] { save_directory(path("new"), model.settings, model.tensors(), nullptr, {.most_shard_bytes = 9999}); },
      ThrowsMessage<Error>(HasSubstr("holds a model.safetensors, which would be taken for the weights")));
}

TEST_F(LanguageFiles, HoldWhatATrainingHasMade) {
  const TransformerSettings settings{.vocab_size = 300, .block_size = 8, .n_layer = 1, .n_head = 2, .n_embd = 8};
  const Tokenizer tokenizer = Tokenizer::load(kFixtures + "gpt2");
  const std::vector<int32_t> tokens{1, 2, 3, 4, 5, 6, 7, 8}, targets{2, 3, 4, 5, 6, 7, 8, 9};
  const Batch batch({{"tokens", tokens, {8}}, {"targets", targets, {8}}});
  const Model model = make_transformer("small", settings);
  const auto serial = make_serial_communicator();
  for (const char* precision : {"f32", "bf16-stochastic"}) {
    Trainer trainer(
        *serial, model.variables, model.forward,
        {.optimizer = {.name = "sgd", .options = {{"learning_rate", 1}}}, .precision = precision, .threads = 1});
    (void)trainer.run(batch);
    save_trained(path("trained"), settings, trainer.variables(), &tokenizer);
    save_trained(path("trained.safetensors"), settings, trainer.variables(), nullptr);
    const LanguageModel folder = load(path("trained")), file = load(path("trained.safetensors"));
    EXPECT_EQ(bytes_of(folder), bytes_of(file));
    EXPECT_EQ(folder.tokenizer_hash, hash_text(tokenizer));
    EXPECT_EQ(file.tokenizer_hash, "");
    const Tensor& trained = trainer.variables().values().front();
    for (int64_t i = 0; i < trained.size(); ++i) {
      const float expected = trained.dtype() == DType::f32 ? data<float>(ConstView(trained))[i]
                                                           : float(data<bfloat16>(ConstView(trained))[i]);
      ASSERT_EQ(data<float>(ConstView(folder.values.front()))[i], expected) << precision << ", element " << i;
    }
  }
}

TEST_F(LanguageFiles, KnowTheirTokenizer) {
  const Tokenizer tokenizer = Tokenizer::load(kFixtures + "gpt2");
  LanguageModel model = load(kFixtures + "gpt2");
  const auto belongs = [&] { check_tokenizer(model, "weights", tokenizer, "folder"); };
  EXPECT_NO_THROW(belongs());
  model.settings.vocab_size = 299;
  EXPECT_THAT(belongs,
              ThrowsMessage<Error>(HasSubstr(
                  "'folder' has a vocabulary of 300, and the model of 'weights' one of 299, expected as many;")));
  model.settings.vocab_size = 300 + kMostPadding;
  EXPECT_NO_THROW(belongs());
  ++model.settings.vocab_size;
  EXPECT_THAT(belongs, ThrowsMessage<Error>(HasSubstr("expected as many, or up to 1024 less")));
  model.tokenizer_hash = hash_text(tokenizer);
  EXPECT_NO_THROW(belongs()) << "the weights say that it is theirs";
  model.tokenizer_hash[0] = model.tokenizer_hash[0] == '0' ? '1' : '0';
  EXPECT_THAT(belongs, ThrowsMessage<Error>(HasSubstr("does not belong to the weights of 'weights'")));
}

}  // namespace
}  // namespace lockstep
