# SPDX-License-Identifier: Apache-2.0
"""Language models go from an installed transformers to Lockstep and back: exchange.py LOCKSTEP EXCHANGE_CHECK
Writes the folders of models in this folder: exchange.py --fixtures

transformers computes in float64, so that what is left is our rounding. Exit code 77: a package of Python is missing.
"""
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
try:
    import torch
    from safetensors.torch import load_file, save_file
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import (AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, LlamaConfig,
                              LlamaForCausalLM, PreTrainedTokenizerFast)
except ImportError as error:
    print(f"skipped: language models are not exchanged with transformers: {error}")
    sys.exit(77)

TOLERANCE = 1e-5
GREEDY = 64
TEXT = "It is a truth universally acknowledged, that a single model in possession of good weights must be in want of text."


def gpt(vocabulary=300, width=16, layers=2, **changes):
    return GPT2LMHeadModel(GPT2Config(
        vocab_size=vocabulary, n_positions=80, n_embd=width, n_layer=layers, n_head=2, bos_token_id=0, eos_token_id=0,
        **changes))


def llama(vocabulary=300, width=16, layers=2, kv_heads=2, theta=10000.0, tied=False):
    return LlamaForCausalLM(LlamaConfig(
        vocab_size=vocabulary, max_position_embeddings=80, hidden_size=width, intermediate_size=24,
        num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=kv_heads, tie_word_embeddings=tied,
        bos_token_id=0, eos_token_id=0, rope_parameters={"rope_theta": theta, "rope_type": "default"}))


def draw(model, seed):
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1 if "norm" in name or "ln_" in name else 0, 0.2)
    return model.eval()


def tokenizer():
    trained = Tokenizer(models.BPE())
    trained.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trained.decoder = decoders.ByteLevel()
    trained.train_from_iterator([TEXT] * 10, trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False))
    return PreTrainedTokenizerFast(tokenizer_object=trained, eos_token="<|endoftext|>", bos_token="<|endoftext|>")


def expect(folder, path, samples=2, length=7):
    """What the model of a folder says of some tokens, and how it goes on."""
    # A model that was turned to bf16 has turned the frequencies of its positions, too, so it is read again.
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
    vocabulary = model.config.vocab_size
    tokens = (torch.arange(samples * length).reshape(samples, length) * 37 + 11) % vocabulary
    with torch.no_grad():
        logits = model(tokens).logits.float()
        # Without an end of text, so that there are as many tokens as we ask for.
        greedy = model.generate(tokens[:1], attention_mask=torch.ones(1, length, dtype=torch.long), do_sample=False,
                                max_new_tokens=GREEDY, eos_token_id=None, pad_token_id=0)[0, length:]
    save_file({"tokens": tokens.int(), "logits": logits.contiguous(), "greedy": greedy.int()}, path)


def fixtures():
    folder = pathlib.Path(__file__).parent
    for name, model, dtype in [("gpt2", draw(gpt(), 1), torch.float32), ("llama", draw(llama(), 2), torch.bfloat16)]:
        model.to(dtype).save_pretrained(folder / name)
        expect(folder / name, folder / name / "expected.safetensors")
    tokenizer().save_pretrained(folder / "gpt2")


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"FAILED: {' '.join(map(str, command))}: {done.stdout}{done.stderr}")
    return done.stdout.strip()


def exchange(name, model, folder, lockstep, check, how):
    theirs, ours, file, again, expected = (folder / part for part in ("theirs", "ours", "our.safetensors", "again", "expected"))
    model.save_pretrained(theirs, **how)
    text = tokenizer() if model.config.vocab_size == 300 else None
    if text:
        text.save_pretrained(theirs)
    weights = {key: value.float() for key, value in model.state_dict().items()}
    expect(theirs, expected)
    print(f"ok: {name}: theirs read here: {run(check, theirs, expected, TOLERANCE)}")
    # Through a folder and a file, each of which is read and written; the second folder has shards.
    run(lockstep, "convert", theirs, ours)
    run(lockstep, "convert", ours, file)
    run(lockstep, "convert", file, again, "--shard-mib", "1", *(["--tokenizer", theirs] if text else []))
    sharded = (again / "model.safetensors.index.json").exists()
    assert sharded == (model.config.vocab_size > 300), f"{name}: {list(again.iterdir())}"
    for written in (ours, again):
        read, report = AutoModelForCausalLM.from_pretrained(written, dtype=torch.float32, output_loading_info=True)
        assert not any(report.values()), f"{name}: {report}"
        for key, value in read.state_dict().items():
            assert torch.equal(value, weights[key]), f"{name}: {key} differs in {written.name}"
        expect(written, expected)
        print(f"ok: {name}: ours read there: {run(check, written, expected, TOLERANCE)}")
        assert read.config.eos_token_id == read.generation_config.eos_token_id == 0, name
    if text:
        read = AutoTokenizer.from_pretrained(ours)
        assert read.encode(TEXT) == text.encode(TEXT) and read.eos_token_id == 0, f"{name}: the tokenizer differs"


def shed(folder):
    """GPT-2's own file: names without the first word, and masks."""
    path = folder / "model.safetensors"
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in load_file(path).items()}
    for layer in range(2):
        tensors[f"h.{layer}.attn.bias"] = torch.ones(80, 80).tril().reshape(1, 1, 80, 80)
    save_file(tensors, path)


def main(lockstep, check):
    cases = [
        ("gpt2", draw(gpt(), 3), {}),
        ("gpt2, untied, wide", draw(gpt(width=32, layers=3, n_inner=48, tie_word_embeddings=False), 4), {}),
        ("gpt2, f16", draw(gpt(), 5).half(), {}),
        ("gpt2, shards", draw(gpt(vocabulary=6000, width=64), 6), {"max_shard_size": "500KB"}),
        ("llama, groups", draw(llama(kv_heads=1), 7), {}),
        ("llama, tied, theta 500000", draw(llama(theta=500000.0, tied=True, kv_heads=4), 8), {}),
        ("llama, bf16", draw(llama(layers=3), 9).bfloat16(), {}),
        ("llama, shards", draw(llama(vocabulary=6000, width=64), 10), {"max_shard_size": "500KB"}),
    ]
    for name, model, how in cases:
        with tempfile.TemporaryDirectory() as folder:
            exchange(name, model, pathlib.Path(folder), lockstep, check, how)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        model = draw(gpt(), 11)
        model.save_pretrained(folder / "old")
        shed(folder / "old")
        expect(folder / "old", folder / "expected")
        print(f"ok: gpt2, old names: {run(check, folder / 'old', folder / 'expected', TOLERANCE)}")


if __name__ == "__main__":
    if sys.argv[1:] == ["--fixtures"]:
        fixtures()
    else:
        main(*sys.argv[1:])
