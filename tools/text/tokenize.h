// SPDX-License-Identifier: Apache-2.0
// What `lockstep tokenize` does: learns a tokenizer from files, and turns files into tokens and back.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "runtime/data/tokens/token_writer.h"
#include "runtime/text/bpe_trainer.h"
#include "runtime/text/tokenizer.h"

namespace lockstep {

struct TokenizeRun {
  std::vector<std::string> inputs;  // names or globs of files of text
  int threads = 1;
  bool terminal = false;  // show progress
};

// Learns from all documents of all inputs.
Tokenizer train_tokenizer(const TokenizeRun& run, const BpeTraining& training);

struct EncodeOptions {
  std::string output;
  std::string validation;         // takes the last share of each input; empty: there is none
  double validation_share = 0.1;  // in (0, 1)
  int64_t shard_tokens = 0;       // of the output; 0: one file
  bool end_of_text = true;        // behind each document
  SpecialTokens special = SpecialTokens::as_text;
};

struct EncodedPart {
  std::vector<WrittenTokens> files;
  int64_t bytes = 0;  // of text
  int64_t tokens = 0;
  int64_t documents = 0;  // that ended
  int64_t empty_documents = 0;
};

struct EncodeReport {
  EncodedPart output, validation;
  double seconds = 0;
};

// Encodes inputs in the order given. Error(usage) for an output that is an input or another output. Nothing is left
// behind on errors.
EncodeReport encode_files(const TokenizeRun& run, const Tokenizer& tokenizer, const EncodeOptions& options);

}  // namespace lockstep
