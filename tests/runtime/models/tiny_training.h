// SPDX-License-Identifier: Apache-2.0
// Trainings of small language models, and their ledgers.
#pragma once

#include <string>
#include <vector>

#include "runtime/models/transformer.h"
#include "runtime/trainer.h"

namespace lockstep {

inline TransformerSettings tiny(TransformerFamily family) {
  return {.family = family,
          .vocab_size = 29,
          .block_size = 16,
          .n_layer = 2,
          .n_head = 2,
          .n_kv_head = family == TransformerFamily::llama ? 1 : 0,
          .n_embd = 16,
          .dropout = 0};
}

// Samples of a sequence in which a token follows from the two before it, some of whose targets are masked.
struct Text {
  std::vector<int32_t> tokens, targets;
  int64_t length;

  Text(int64_t samples, int64_t length_of, int64_t vocabulary, bool masked) : length(length_of) {
    for (int64_t s = 0; s < samples; ++s) {
      int64_t before = s % vocabulary, now = (s * 7 + 1) % vocabulary;
      for (int64_t t = 0; t < length; ++t) {
        const int64_t next = (now + 2 * before + 3) % vocabulary;
        tokens.push_back(int32_t(now));
        targets.push_back(masked && (s + t) % 5 == 0 ? -1 : int32_t(next));
        before = now, now = next;
      }
    }
  }
  Batch batch() const { return Batch({{"tokens", tokens, {length}}, {"targets", targets, {length}}}); }
};

inline const TrainerOptions kOptions{.optimizer = {.name = "adamw", .options = {{"learning_rate", 0.01}}},
                                     .plan = {.virtual_ranks = 6},
                                     .clip = {.global_clipnorm = 1},
                                     .threads = 1};

// What a run of so many steps writes.
inline std::vector<std::string> ledger_of(Communicator& ranks, const TransformerSettings& settings,
                                          const TrainerOptions& options, int64_t steps) {
  const Model model = make_transformer("tiny", settings);
  const Text text(13, 11, settings.vocab_size, true);
  Trainer trainer(ranks, model.variables, model.forward, options);
  std::vector<std::string> ledger;
  for (int64_t step = 0; step < steps; ++step) ledger.push_back(trainer.ledger_line(trainer.run(text.batch())));
  ranks.barrier();
  return ledger;
}

}  // namespace lockstep
