// SPDX-License-Identifier: Apache-2.0
// What another program has computed with a language model of files, and how far ours is from it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "runtime/language/language_model.h"

namespace lockstep {

// `model_path` is what load_language_model() reads. `expected_path` is a safetensors file that
// tests/runtime/language/exchange.py has written: "tokens" [samples, length] i32, "logits" [samples, length,
// vocabulary], and "greedy" [tokens] i32, the likeliest tokens behind the first sample.
class ExchangeCase {
 public:
  ExchangeCase(const std::string& model_path, const std::string& expected_path);

  const LanguageModel& model() const { return model_; }
  // Greatest differences relative to the greatest logit: "logits" of whole samples from those expected, "cached" of
  // samples that are read token by token, and "in pieces" of samples that are read in uneven pieces, from the former.
  std::map<std::string, double> differences();
  // Likeliest tokens of our model behind the first sample, and those of the file.
  std::vector<int32_t> greedy();
  std::vector<int32_t> expected_greedy() const { return integers("greedy"); }

 private:
  std::vector<int32_t> integers(const char* name) const;
  std::vector<float> whole();
  std::vector<float> by_pieces(bool single);

  Pool pool_{Device{}};
  Stream stream_ = Stream::cpu();
  LanguageModel model_;
  SafetensorsFile expected_;
  int64_t samples_ = 0, length_ = 0;
};

}  // namespace lockstep
