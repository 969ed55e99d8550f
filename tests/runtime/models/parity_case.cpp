// SPDX-License-Identifier: Apache-2.0
#include "tests/runtime/models/parity_case.h"

#include <algorithm>
#include <cmath>

#include "collectives/host/thread_ranks.h"
#include "runtime/trainer.h"
#include "tests/runtime/models/greatest_difference.h"

namespace lockstep {
namespace {

// Their name for a path of ours.
std::string stored_name(const std::string& kind, std::string path) {
  std::ranges::replace(path, '/', '.');
  return kind + "." + path;
}

std::vector<float> values_of(const ConstView& view) { return {data<float>(view), data<float>(view) + view.size()}; }

}  // namespace

ParityCase::ParityCase(const std::string& path) : file_(path) {
  const auto whole = [&](const char* name) { return int64_t(number(name)); };
  const bool llama = file_.metadata().at("family") == "llama";
  settings_ = {.family = llama ? TransformerFamily::llama : TransformerFamily::gpt,
               .vocab_size = whole("vocab_size"),
               .block_size = whole("block_size"),
               .n_layer = whole("n_layer"),
               .n_head = whole("n_head"),
               .n_kv_head = whole("n_kv_head"),
               .n_embd = whole("n_embd"),
               .n_inner = whole("n_inner"),
               .norm_epsilon = float(number("norm_epsilon")),
               .rope_theta = float(number("rope_theta")),
               .tied = whole("tied") != 0};
  model_ = make_transformer("parity", settings_);
}

double ParityCase::number(const std::string& name) const { return std::stod(file_.metadata().at(name)); }

std::vector<float> ParityCase::reals(const std::string& name) const {
  const StoredTensor* stored = file_.find(name);
  check(stored != nullptr, ErrorCode::data, [&] { return str(file_.path(), " has no tensor ", name); });
  std::vector<float> values(size_t(stored->bytes) / sizeof(float));
  file_.read(name, std::as_writable_bytes(std::span(values)));
  return values;
}

std::vector<int32_t> ParityCase::integers(const std::string& name) const {
  std::vector<int32_t> values(size_t(file_.find(name)->bytes) / sizeof(int32_t));
  file_.read(name, std::as_writable_bytes(std::span(values)));
  return values;
}

std::vector<Tensor> ParityCase::weights(Pool& pool) const {
  std::vector<Tensor> values;
  for (const VariableDeclaration& variable : model_.variables.declarations()) {
    values.emplace_back(pool, variable.dtype, variable.shape, Purpose::parameters);
    file_.read(stored_name("weight", variable.path), View(values.back()));
  }
  return values;
}

std::map<std::string, double> ParityCase::differences() const {
  const StoredTensor& shape = *file_.find("tokens");
  const Shape sample{shape.shape[1]};
  const std::vector<int32_t> tokens = integers("tokens"), targets = integers("targets");
  const Batch batch({{"tokens", tokens, sample}, {"targets", targets, sample}});
  double unmasked = 0;
  for (const int32_t target : targets) unmasked += target >= 0;
  // The mean over unmasked tokens in place of that over all.
  const double share = double(targets.size()) / unmasked;

  Stream stream = Stream::cpu();
  Pool pool({});
  Tape tape;
  Context context(stream, pool, &tape);
  std::vector<Tensor> values = weights(pool), gradients;
  const auto& variables = model_.variables.declarations();
  for (size_t v = 0; v < values.size(); ++v) {
    gradients.emplace_back(pool, DType::f32, variables[v].shape);
    tape.watch(values[v], int32_t(v), gradients[v], variables[v].path);
  }
  context.set_values(values);
  std::map<std::string, double> found{{"gradient", 0.0}, {"step", 0.0}};
  found["logits"] = greatest_difference(values_of(model_.logits(context, batch["tokens"])), reals("logits"));
  tape.clear();
  for (size_t v = 0; v < values.size(); ++v) tape.watch(values[v], int32_t(v), gradients[v], variables[v].path);
  const Tensor loss = model_.forward(context, batch).loss;
  const auto samples = double(batch.samples());
  const Tensor seed = context.empty_like(loss);
  std::fill_n(data<float>(View(seed)), seed.size(), float(share / samples));
  tape.backward(context, loss, seed, nullptr);
  double mean = 0;
  for (const float each : values_of(loss)) mean += double(each) * share / samples;
  found["loss"] = greatest_difference({float(mean)}, reals("loss"));
  for (size_t v = 0; v < values.size(); ++v)
    found["gradient"] =
        std::max(found["gradient"],
                 greatest_difference(values_of(gradients[v]), reals(stored_name("gradient", variables[v].path))));

  const auto serial = make_serial_communicator();
  Trainer trainer(
      *serial, model_.variables, model_.forward,
      {.optimizer = {.name = "adamw",
                     .options = {{"learning_rate", 1}, {"epsilon", 0.1}, {"weight_decay", 0.1}, {"torch_formula", 1}}},
       .threads = 1});
  for (size_t v = 0; v < values.size(); ++v)
    file_.read(stored_name("weight", variables[v].path), View(trainer.variables().values()[v]));
  (void)trainer.run(batch);
  for (size_t v = 0; v < values.size(); ++v) {
    std::vector<float> before = reals(stored_name("weight", variables[v].path));
    std::vector<float> expected = reals(stored_name("stepped", variables[v].path));
    std::vector<float> ours = values_of(trainer.variables().values()[v]);
    for (size_t i = 0; i < before.size(); ++i) expected[i] -= before[i], ours[i] -= before[i];
    found["step"] = std::max(found["step"], greatest_difference(ours, expected));
  }
  return found;
}

std::vector<int32_t> ParityCase::greedy() const {
  Stream stream = Stream::cpu();
  Pool pool({});
  Context context(stream, pool, nullptr);
  const std::vector<Tensor> values = weights(pool);
  context.set_values(values);
  std::vector<int32_t> all{integers("tokens")[0]};
  const size_t wanted = expected_greedy().size();
  while (all.size() <= wanted) {
    const auto length = int64_t(all.size());
    const Tensor logits =
        model_.logits(context, Tensor::borrow(ConstView{all.data(), DType::i32, DeviceKind::cpu, Shape{1, length}}));
    const float* last = data<float>(ConstView(logits)) + (length - 1) * settings_.vocab_size;
    all.push_back(int32_t(std::max_element(last, last + settings_.vocab_size) - last));
  }
  all.erase(all.begin());
  return all;
}

}  // namespace lockstep
