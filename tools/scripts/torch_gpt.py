#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Trains a GPT in PyTorch on CPUs, in turn with `lockstep bench train` of the same model and batch.

usage: torch_gpt.py LOCKSTEP [--model gpt-mini | gpt2-124m] [--batch N] [--sequence N] [--threads N] [--rounds N] [--compile]

Each round runs Lockstep, then PyTorch as it is installed, and PyTorch with the check of the vendor in its MKL overridden,
which on processors of other vendors lets MKL take its fast path. PyTorch has its best configuration: fused attention and
AdamW, threads bound to cores, memory that malloc keeps; with --compile, torch.compile too. Prints the tokens per second of
each round, medians, and the ratios, which are taken within a round. Exit code 77: no PyTorch.
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

MODELS = {  # layers, width, heads, vocabulary, longest sequence; and the defaults of batch and sequence
    "gpt-mini": ((6, 384, 6, 4096, 256), 8, 256),
    "gpt2-124m": ((12, 768, 12, 50304, 1024), 4, 64),
}
STEPS = 3
# What MKL asks before it takes the code for new processors; preloaded, this answers for it.
FAST_PATH = "int mkl_serv_intel_cpu_true(void) { return 1; }\n"


def model(torch, shape):
    """The GPT of docs/language-models.md, with a tied table and without dropout."""
    nn, functional = torch.nn, torch.nn.functional
    layers, width, heads, vocabulary, longest = shape

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
            self.attention, self.attended = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.inner, self.outer = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x):
            samples, length, _ = x.shape
            query, key, value = (
                part.view(samples, length, heads, width // heads).transpose(1, 2)
                for part in self.attention(self.ln_1(x)).split(width, dim=2))
            y = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
            x = x + self.attended(y.transpose(1, 2).reshape(samples, length, width))
            return x + self.outer(functional.gelu(self.inner(self.ln_2(x)), approximate="tanh"))

    class Gpt(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(longest, width)
            self.blocks, self.norm = nn.ModuleList(Block() for _ in range(layers)), nn.LayerNorm(width)

        def forward(self, tokens, targets):
            x = self.table(tokens) + self.positions(torch.arange(tokens.shape[1]))
            for block in self.blocks:
                x = block(x)
            logits = functional.linear(self.norm(x), self.table.weight)
            return functional.cross_entropy(logits.view(-1, vocabulary), targets.view(-1))

    return Gpt()


def tokens_per_second(options):
    """In a process of its own, whose environment says which code MKL takes."""
    import torch
    torch.set_num_threads(options.threads)
    torch.manual_seed(1)
    shape = MODELS[options.model][0]
    gpt = model(torch, shape)
    optimizer = torch.optim.AdamW(gpt.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    tokens = torch.randint(0, shape[3], (options.batch, options.sequence + 1))
    forward = torch.compile(gpt) if options.compile else gpt

    def step():
        forward(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous()).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for _ in range(2):
        step()
    seconds = []
    for _ in range(STEPS):
        begin = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - begin)
    return options.batch * options.sequence / statistics.median(seconds)


def of_torch(options, preloaded):
    cores = sorted(os.sched_getaffinity(0))[:options.threads]
    environment = dict(os.environ, OMP_NUM_THREADS=str(options.threads), OMP_PROC_BIND="true",
                       OMP_PLACES=",".join(f"{{{core}}}" for core in cores),
                       # Freed memory stays with the process, which would have to ask for zeroed pages again.
                       MALLOC_TRIM_THRESHOLD_="-1", MALLOC_MMAP_THRESHOLD_=str(1 << 40), MALLOC_TOP_PAD_=str(1 << 26))
    if preloaded:
        environment["LD_PRELOAD"] = preloaded
    words = [sys.executable, __file__, options.lockstep, "--worker", *options.words]
    return float(subprocess.run(words, env=environment, check=True, capture_output=True, text=True).stdout)


def of_lockstep(options):
    words = [options.lockstep, "bench", "train", "--model", options.model, "--batch", str(options.batch), "--sequence",
             str(options.sequence), "--threads", str(options.threads), "--rounds", "3", "--json"]
    rows = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    return next(row["value"] for row in rows if row["name"].endswith("/tokens"))


def fast_path(folder):
    source, library = pathlib.Path(folder) / "mkl.c", pathlib.Path(folder) / "mkl.so"
    source.write_text(FAST_PATH)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    return str(library)


def compare(options):
    print(f"{options.model}, {options.batch} x {options.sequence} tokens, {options.threads} threads")
    with tempfile.TemporaryDirectory() as folder:
        library = fast_path(folder)
        ways = {"lockstep": lambda: of_lockstep(options), "torch": lambda: of_torch(options, None),
                "torch, fast path": lambda: of_torch(options, library)}
        rates = {name: [] for name in ways}
        for _ in range(options.rounds):
            for name, measure in ways.items():
                rates[name].append(measure())
                print(f"{name}: {rates[name][-1]:.0f} tokens/s", flush=True)
    for name, of_rounds in rates.items():
        ratio = statistics.median(ours / theirs for ours, theirs in zip(rates["lockstep"], of_rounds))
        print(f"{name}: median {statistics.median(of_rounds):.0f} tokens/s, lockstep is {ratio:.2f} times as fast")


def parsed(words):
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("lockstep")
    parser.add_argument("--model", choices=MODELS, default="gpt-mini")
    for number, default in (("batch", 0), ("sequence", 0), ("threads", 1), ("rounds", 3)):
        parser.add_argument(f"--{number}", type=int, default=default)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    options.words = [word for word in words if word not in (options.lockstep, "--worker")]
    options.batch = options.batch or MODELS[options.model][1]
    options.sequence = options.sequence or MODELS[options.model][2]
    return options


def main(words):
    options = parsed(words)
    try:
        import torch
    except ImportError:
        print("this Python has no PyTorch", file=sys.stderr)
        return 77
    if options.worker:
        print(tokens_per_second(options))
        return 0
    print(f"torch {torch.__version__}")
    compare(options)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
