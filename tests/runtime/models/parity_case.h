// SPDX-License-Identifier: Apache-2.0
// A language model as another program has computed it, in one safetensors file that tests/runtime/models/parity.py
// writes, and how far ours is from it.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "runtime/files/safetensors.h"
#include "runtime/models/transformer.h"

namespace lockstep {

// The file has, as metadata, settings by the names of TransformerSettings; tensors "weight.NAME", "gradient.NAME" and
// "stepped.NAME" (after one step of AdamW) for each variable, NAME as in files of Hugging Face; "tokens" and "targets"
// [samples, length] i32, "logits", "loss" (the mean over unmasked tokens), and "greedy" [tokens] i32: targets of the
// greatest logits, one after the other, behind the first token.
class ParityCase {
 public:
  explicit ParityCase(const std::string& path);

  const TransformerSettings& settings() const { return settings_; }
  // Greatest differences relative to the greatest magnitude of what was expected: of "logits", of "loss", and over all
  // variables of "gradient" and of what a step has changed, "step".
  std::map<std::string, double> differences() const;
  // Greedy tokens of our model, and those of the file.
  std::vector<int32_t> greedy() const;
  std::vector<int32_t> expected_greedy() const { return integers("greedy"); }

 private:
  std::vector<float> reals(const std::string& name) const;
  std::vector<int32_t> integers(const std::string& name) const;
  double number(const std::string& name) const;
  std::vector<Tensor> weights(Pool& pool) const;

  SafetensorsFile file_;
  TransformerSettings settings_;
  Model model_;
};

}  // namespace lockstep
