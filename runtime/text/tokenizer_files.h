// SPDX-License-Identifier: Apache-2.0
// The files that tokenizers come in, as text that anyone may have written: read strictly, refused by name and place.
#pragma once

#include <string>
#include <string_view>

#include "runtime/text/tokenizer.h"

namespace lockstep {

// The tokenizer.json of Hugging Face with a byte-level BPE model. Error(data) names what another kind of tokenizer has
// that is not read here: a normaliser, other pre-tokenisation, unknown tokens.
TokenizerParts parts_of_tokenizer_json(std::string_view text, const std::string& where);

// GPT-2's vocabulary (vocab.json, encoder.json) and merges (merges.txt, vocab.bpe). Tokens that no merge makes are
// special.
TokenizerParts parts_of_vocabulary(std::string_view vocabulary, const std::string& where_vocabulary,
                                   std::string_view merges, const std::string& where_merges);

// tiktoken's file of ranks. It does not say how text is cut into pieces, nor which token ends a text: the number of its
// tokens tells which of the known ones it is, and Error(data) lists these for another.
TokenizerParts parts_of_ranks(std::string_view text, const std::string& where);

// The end-of-text token that a tokenizer_config.json names; empty where it names none.
std::string end_of_text_of_config(std::string_view text, const std::string& where);

std::string tokenizer_json(const TokenizerParts& parts);
std::string tokenizer_config_json(const TokenizerParts& parts);

}  // namespace lockstep
