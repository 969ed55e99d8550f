# SPDX-License-Identifier: Apache-2.0
"""Compares language models with those of an installed transformers: parity.py PARITY_CHECK
Writes the fixtures of this folder: parity.py --fixtures

transformers computes in float64, so that what is left is our rounding. Exit code 77: a package of Python is missing.
"""
import pathlib
import subprocess
import sys
import tempfile

try:
    import torch
    from safetensors.torch import save_file
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM
except ImportError as error:
    print(f"skipped: models are not compared with those of transformers: {error}")
    sys.exit(77)

TOLERANCE = 1e-5
torch.set_num_threads(1)


def model_of(settings):
    s = settings
    if s["family"] == "gpt":
        config = GPT2Config(
            vocab_size=s["vocab_size"], n_positions=s["block_size"], n_embd=s["n_embd"], n_layer=s["n_layer"],
            n_head=s["n_head"], n_inner=s["n_inner"], layer_norm_epsilon=s["norm_epsilon"], resid_pdrop=0,
            embd_pdrop=0, attn_pdrop=0, tie_word_embeddings=bool(s["tied"]), bos_token_id=0, eos_token_id=0)
        return GPT2LMHeadModel(config)
    config = LlamaConfig(
        vocab_size=s["vocab_size"], max_position_embeddings=s["block_size"], hidden_size=s["n_embd"],
        num_hidden_layers=s["n_layer"], num_attention_heads=s["n_head"], num_key_value_heads=s["n_kv_head"],
        intermediate_size=s["n_inner"], rms_norm_eps=s["norm_epsilon"], rope_theta=s["rope_theta"],
        tie_word_embeddings=bool(s["tied"]), bos_token_id=0, eos_token_id=0, pad_token_id=None)
    return LlamaForCausalLM(config)


def write(path, settings, samples, length, seed, masked=False):
    torch.manual_seed(seed)
    model = model_of(settings)
    # Larger than first values are, so that nothing is nearly linear; biases and gains are drawn too.
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.normal_(1 if "norm" in name or "ln_" in name else 0, 0.15)
    model = model.float().double().eval()
    tokens = torch.randint(settings["vocab_size"], (samples, length))
    targets = torch.randint(settings["vocab_size"], (samples, length))
    if masked:
        targets[torch.rand(samples, length) < 0.3] = -100
    tensors = {"tokens": tokens.int(), "targets": targets.int()}
    parameters = dict(model.named_parameters())
    for name, parameter in parameters.items():
        tensors["weight." + name] = parameter.detach().float().clone()
    logits = model(tokens).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    loss.backward()
    tensors["logits"] = logits.detach().float()
    tensors["loss"] = loss.detach().float().reshape(1)
    for name, parameter in parameters.items():
        tensors["gradient." + name] = parameter.grad.float().clone()
    sequence = tokens[:1, :1]
    with torch.no_grad():
        while sequence.shape[1] <= min(64, settings["block_size"]):
            greatest = model(sequence).logits[:, -1].argmax(-1, keepdim=True)
            sequence = torch.cat([sequence, greatest], 1)
    tensors["greedy"] = sequence[0, 1:].int()
    # The rate is large, so that what a step changes is not lost in the rounding of weights; so is epsilon, so that
    # roundings of the smallest gradients are not blown up.
    decayed = [p for p in parameters.values() if p.dim() >= 2]
    others = [p for p in parameters.values() if p.dim() < 2]
    torch.optim.AdamW([{"params": decayed}, {"params": others, "weight_decay": 0}], lr=1, eps=0.1,
                      weight_decay=0.1).step()
    for name, parameter in parameters.items():
        tensors["stepped." + name] = parameter.detach().float().clone()
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path,
              metadata={name: str(value) for name, value in settings.items()})


def settings(family, **changes):
    all_settings = {"family": family, "vocab_size": 101, "block_size": 80, "n_layer": 2, "n_head": 4, "n_kv_head": 4,
                    "n_embd": 48, "n_inner": 96, "norm_epsilon": 1e-5, "rope_theta": 10000.0, "tied": 1}
    return all_settings | changes


def fixtures():
    folder = pathlib.Path(__file__).parent
    small = {"vocab_size": 19, "block_size": 12, "n_head": 2, "n_kv_head": 2, "n_embd": 8, "n_inner": 12}
    write(folder / "gpt.safetensors", settings("gpt", **small), 2, 7, seed=1, masked=True)
    write(folder / "llama.safetensors", settings("llama", **small | {"n_kv_head": 1, "tied": 0}), 2, 7, seed=2)


def main(program):
    cases = [
        ("gpt, 2 layers", settings("gpt"), {}),
        ("gpt, 3 layers, untied", settings("gpt", n_layer=3, tied=0), {}),
        ("gpt, 4 layers, masked", settings("gpt", n_layer=4), {"masked": True}),
        ("llama, 2 layers", settings("llama"), {}),
        ("llama, 3 layers, groups, untied", settings("llama", n_layer=3, n_kv_head=2, tied=0), {}),
        ("llama, 4 layers, groups, theta 500000", settings("llama", n_layer=4, n_kv_head=1, rope_theta=500000.0), {}),
        ("llama, masked", settings("llama", n_kv_head=2), {"masked": True}),
    ]
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, chosen, how) in enumerate(cases):
            path = f"{folder}/{number}.safetensors"
            write(path, chosen, 3, 73, seed=number, **how)
            run = subprocess.run([program, path, str(TOLERANCE)], capture_output=True, text=True)
            failed += run.returncode != 0
            print(f"{'FAILED' if run.returncode else 'ok'}: {name}: {run.stdout.strip()}{run.stderr.strip()}")
    sys.exit(failed > 0)


if __name__ == "__main__":
    if sys.argv[1:] == ["--fixtures"]:
        fixtures()
    else:
        main(sys.argv[1])
