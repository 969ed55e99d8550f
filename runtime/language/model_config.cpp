// SPDX-License-Identifier: Apache-2.0
#include "runtime/language/model_config.h"

#include <algorithm>
#include <cmath>

#include "runtime/files/json_reader.h"

namespace lockstep {
namespace {

// Limits that keep a hostile file from costing memory or time; real models are far below them.
constexpr int64_t kMostLayers = 10'000, kMostWidth = 1 << 24, kMostPositions = 1 << 28;
constexpr double kGreatestReal = 1e30;

// Not a key of Hugging Face, whose Llama has pairs in halves only. Files that are exchanged never have it.
constexpr const char* kPairsKey = "lockstep_rope_pairs";

class ConfigReader {
 public:
  ConfigReader(const Json& json, std::string where) : reader_(json, std::move(where)), json_(json) {}

  const std::string& where() const { return reader_.where(); }
  bool has(const char* key) const {
    const auto found = json_.find(key);
    return found != json_.end() && !found->is_null();
  }
  const Json& at(const char* key) const { return reader_.at(key); }
  std::string text(const char* key) const { return reader_.text(key); }
  int64_t number(const char* key, int64_t most) const { return reader_.number(key, 1, most); }
  int64_t number_or(const char* key, int64_t most, int64_t otherwise) const {
    return has(key) ? number(key, most) : otherwise;
  }
  double real_or(const char* key, double otherwise) const {
    const double value = has(key) ? reader_.real(key) : otherwise;
    if (std::abs(value) > kGreatestReal) reader_.wrong(str("a number up to ", kGreatestReal), at(key), key);
    return value;
  }
  bool flag_or(const char* key, bool otherwise) const { return has(key) ? reader_.flag(key) : otherwise; }
  // Another spelling of something that is known already.
  void expect_equal(const char* key, int64_t value, const char* other) const {
    if (has(key) && at(key) != Json(value)) reader_.wrong(str(value, ", as ", other, " says"), at(key), key);
  }
  void expect_flag(const char* key, bool value) const {
    if (has(key) && reader_.flag(key) != value) reader_.wrong(value ? "true" : "false", at(key), key);
  }
  void expect_text(const char* key, std::initializer_list<std::string_view> known, std::string_view otherwise) const {
    const std::string given = has(key) ? reader_.text(key) : std::string(otherwise);
    if (std::ranges::find(known, given) != known.end()) return;
    std::string list;
    for (const std::string_view name : known) list += str(list.empty() ? "" : " or ", name);
    reader_.wrong(list, Json(given), key);
  }
  [[noreturn]] void wrong(const std::string& expected, const char* key) const { reader_.wrong(expected, at(key), key); }

 private:
  JsonReader reader_;
  const Json& json_;
};

std::vector<int32_t> ends_of(const ConfigReader& config, int64_t vocabulary) {
  constexpr const char* key = "eos_token_id";
  if (!config.has(key)) return {};
  const Json& value = config.at(key);
  std::vector<int32_t> ends;
  for (const Json& each : value.is_array() ? value : Json::array({value})) {
    if (!each.is_number_integer() || each < 0 || each >= vocabulary)
      config.wrong(str("tokens below vocab_size ", vocabulary), key);
    ends.push_back(each.get<int32_t>());
  }
  return ends;
}

void check_architecture(const ConfigReader& config, std::initializer_list<std::string_view> known) {
  if (!config.has("architectures")) return;
  const Json& given = config.at("architectures");
  for (const std::string_view name : known)
    if (given.is_array() && given.size() == 1 && given[0] == name) return;
  config.wrong(str("[\"", *known.begin(), "\"]"), "architectures");
}

TransformerSettings gpt_settings(const ConfigReader& config) {
  check_architecture(config, {"GPT2LMHeadModel", "GPT2Model"});
  TransformerSettings s{.family = TransformerFamily::gpt};
  s.vocab_size = config.number("vocab_size", kMostWidth);
  s.block_size = config.number("n_positions", kMostPositions);
  s.n_layer = config.number("n_layer", kMostLayers);
  s.n_head = config.number("n_head", kMostWidth);
  s.n_embd = config.number("n_embd", kMostWidth);
  s.n_inner = config.number_or("n_inner", kMostWidth, 0);
  s.norm_epsilon = float(config.real_or("layer_norm_epsilon", 1e-5));
  s.tied = config.flag_or("tie_word_embeddings", true);
  const double rate = config.real_or("resid_pdrop", 0.1);
  if (rate == config.real_or("embd_pdrop", 0.1) && rate == config.real_or("attn_pdrop", 0.1)) s.dropout = float(rate);
  config.expect_equal("n_ctx", s.block_size, "n_positions");
  config.expect_equal("max_position_embeddings", s.block_size, "n_positions");
  config.expect_equal("num_hidden_layers", s.n_layer, "n_layer");
  config.expect_equal("num_attention_heads", s.n_head, "n_head");
  config.expect_equal("hidden_size", s.n_embd, "n_embd");
  config.expect_text("activation_function", {"gelu_new", "gelu_pytorch_tanh"}, "gelu_new");
  config.expect_flag("scale_attn_weights", true);
  config.expect_flag("scale_attn_by_inverse_layer_idx", false);
  config.expect_flag("add_cross_attention", false);
  return s;
}

// Newer files have an object in place of rope_theta and rope_scaling.
void read_rotary(const ConfigReader& config, TransformerSettings& s) {
  s.rope_theta = float(config.real_or("rope_theta", 10000));
  for (const char* key : {"rope_parameters", "rope_scaling"}) {
    if (!config.has(key)) continue;
    const ConfigReader rotary(config.at(key), str(config.where(), ".", key));
    rotary.expect_text("rope_type", {"default"}, rotary.has("type") ? rotary.text("type") : "default");
    if (!rotary.has("rope_theta")) continue;
    const auto theta = float(rotary.real_or("rope_theta", 10000));
    if (config.has("rope_theta") && theta != s.rope_theta)
      rotary.wrong(str(s.rope_theta, ", as rope_theta outside says"), "rope_theta");
    s.rope_theta = theta;
  }
  if (config.has(kPairsKey)) {
    config.expect_text(kPairsKey, {"neighbours"}, "neighbours");
    s.rope_pairs = RotaryPairs::neighbours;
  }
}

TransformerSettings llama_settings(const ConfigReader& config) {
  check_architecture(config, {"LlamaForCausalLM", "LlamaModel"});
  TransformerSettings s{.family = TransformerFamily::llama};
  s.vocab_size = config.number("vocab_size", kMostWidth);
  s.block_size = config.number("max_position_embeddings", kMostPositions);
  s.n_layer = config.number("num_hidden_layers", kMostLayers);
  s.n_head = config.number("num_attention_heads", kMostWidth);
  s.n_kv_head = config.number_or("num_key_value_heads", kMostWidth, s.n_head);
  s.n_embd = config.number("hidden_size", kMostWidth);
  s.n_inner = config.number("intermediate_size", kMostWidth);
  s.norm_epsilon = float(config.real_or("rms_norm_eps", 1e-6));
  s.tied = config.flag_or("tie_word_embeddings", false);
  read_rotary(config, s);
  config.expect_equal("head_dim", s.n_embd / s.n_head, "hidden_size / num_attention_heads");
  config.expect_text("hidden_act", {"silu", "swish"}, "silu");
  config.expect_flag("attention_bias", false);
  config.expect_flag("mlp_bias", false);
  return s;
}

// Both libraries of today and those of some years ago understand what is written.
Json gpt_config(const TransformerSettings& s) {
  return {{"architectures", {"GPT2LMHeadModel"}},
          {"model_type", "gpt2"},
          {"vocab_size", s.vocab_size},
          {"n_positions", s.block_size},
          {"n_layer", s.n_layer},
          {"n_head", s.n_head},
          {"n_embd", s.n_embd},
          {"n_inner", s.n_inner},
          {"layer_norm_epsilon", s.norm_epsilon},
          {"activation_function", "gelu_new"},
          {"resid_pdrop", s.dropout},
          {"embd_pdrop", s.dropout},
          {"attn_pdrop", s.dropout},
          {"tie_word_embeddings", s.tied}};
}

Json llama_config(const TransformerSettings& s) {
  Json config{{"architectures", {"LlamaForCausalLM"}},
              {"model_type", "llama"},
              {"vocab_size", s.vocab_size},
              {"max_position_embeddings", s.block_size},
              {"num_hidden_layers", s.n_layer},
              {"num_attention_heads", s.n_head},
              {"num_key_value_heads", s.n_kv_head},
              {"hidden_size", s.n_embd},
              {"intermediate_size", s.n_inner},
              {"rms_norm_eps", s.norm_epsilon},
              {"rope_theta", s.rope_theta},
              {"rope_scaling", nullptr},
              {"hidden_act", "silu"},
              {"attention_bias", false},
              {"mlp_bias", false},
              {"tie_word_embeddings", s.tied}};
  if (s.rope_pairs == RotaryPairs::neighbours) config[kPairsKey] = "neighbours";
  return config;
}

void add_ends(Json& config, std::optional<int32_t> end_of_text) {
  for (const char* key : {"bos_token_id", "eos_token_id"})
    config[key] = end_of_text ? Json(*end_of_text) : Json(nullptr);
}

}  // namespace

ModelConfig parse_model_config(std::string_view text, const std::string& where) {
  const Json json = parse_json(text, where);
  const ConfigReader config(json, where);
  const std::string type = config.text("model_type");
  if (type != "gpt2" && type != "llama")
    config.wrong("gpt2 or llama, the families that are computed here", "model_type");
  TransformerSettings settings = type == "gpt2" ? gpt_settings(config) : llama_settings(config);
  try {
    settings = complete(settings);
  } catch (const Error& error) {
    fail(ErrorCode::data, str(where, ": ", error.what()));
  }
  return {settings, ends_of(config, settings.vocab_size)};
}

void add_generation_config(ModelConfig& config, std::string_view text, const std::string& where) {
  const Json json = parse_json(text, where);
  for (const int32_t end : ends_of(ConfigReader(json, where), config.settings.vocab_size))
    if (std::ranges::find(config.ends, end) == config.ends.end()) config.ends.push_back(end);
}

std::string model_config_json(const TransformerSettings& settings, std::optional<int32_t> end_of_text) {
  Json config = settings.family == TransformerFamily::gpt ? gpt_config(settings) : llama_config(settings);
  add_ends(config, end_of_text);
  config["torch_dtype"] = "float32";
  return config.dump(2) + "\n";
}

std::string generation_config_json(std::optional<int32_t> end_of_text) {
  Json config{{"_from_model_config", true}};
  add_ends(config, end_of_text);
  return config.dump(2) + "\n";
}

}  // namespace lockstep
