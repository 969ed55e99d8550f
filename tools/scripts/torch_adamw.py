#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Times PyTorch's fused AdamW on one GPU, beside a copy in the same rounds.

usage: torch_adamw.py ELEMENTS...
Prints a JSON array of {elements, rows}, rows being like those of `lockstep bench --json`. Exit code 77: no PyTorch, or it finds no GPU.
"""
import json
import statistics
import sys


def milliseconds(torch, call):
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    call()
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end)


def rows(torch, elements):
    parameter = torch.nn.Parameter(torch.rand(elements, device="cuda"))
    parameter.grad = torch.rand_like(parameter)
    source, target = torch.rand_like(parameter.grad), torch.rand_like(parameter.grad)
    optimizer = torch.optim.AdamW([parameter], lr=1e-3, fused=True)
    samples = {"copy": [], "adamw": []}
    for round_ in range(23):
        for name, call in (("copy", lambda: target.copy_(source)), ("adamw", optimizer.step)):
            time = milliseconds(torch, call)
            if round_ >= 3:
                samples[name].append(time)
    bytes_ = {"copy": 8 * elements, "adamw": 28 * elements}
    rate = {name: bytes_[name] / statistics.median(times) * 1e-6 for name, times in samples.items()}
    share = statistics.median(c / a for c, a in zip(samples["copy"], samples["adamw"])) * 28 / 8
    note = f"{elements} f32 parameters, torch {torch.__version__}"
    return [
        {"name": f"torch/{name}", "value": rate[name], "unit": "GB/s", "roof": rate["copy"] if name == "adamw" else 0,
         "share_of_roof": share if name == "adamw" else 0, "bytes": bytes_[name], "flops": 0, "note": note}
        for name in ("copy", "adamw")
    ]


def main(arguments):
    if not arguments or not all(argument.isdigit() for argument in arguments):
        print(__doc__, file=sys.stderr)
        return 2
    try:
        import torch
    except ImportError:
        print("this Python has no PyTorch", file=sys.stderr)
        return 77
    if not torch.cuda.is_available():
        print("PyTorch finds no GPU", file=sys.stderr)
        return 77
    sizes = [{"elements": int(argument), "rows": rows(torch, int(argument))} for argument in arguments]
    print(json.dumps(sizes, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
