# SPDX-License-Identifier: Apache-2.0
"""Compares optimizers with those of an installed PyTorch over 100 random steps: torch_test.py OPTIMIZER_STEPS

PyTorch computes in float64, so what is left is the rounding of our f32 parameters and slots. Exit code 77: no PyTorch.
"""
import subprocess
import sys

try:
    import torch
except ImportError as error:
    print(f"skipped: optimizers are not compared with PyTorch's: {error}")
    sys.exit(77)

STEPS = 100
SHAPE = (6, 4)
DECAY = {"weight_decay": 0.01}
COUPLED = {"weight_decay": 0.01, "coupled_weight_decay": 1}

# Epsilon is large, so that its place in the formula shows.
# Name here, options here; optimizer and options there; largest error that is rounding, relative to the largest weight.
CASES = [
    ("sgd", {"learning_rate": 0.1, **COUPLED}, torch.optim.SGD, {"lr": 0.1, **DECAY}, 2e-6),
    ("sgd", {"learning_rate": 0.1, "momentum": 0.9, "torch_formula": 1, **COUPLED},
     torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, **DECAY}, 2e-6),
    ("sgd", {"learning_rate": 0.1, "momentum": 0.9, "nesterov": 1, "torch_formula": 1, **COUPLED},
     torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, **DECAY}, 2e-6),
    ("adam", {"learning_rate": 0.01, "epsilon": 1e-3, "torch_formula": 1, **COUPLED},
     torch.optim.Adam, {"lr": 0.01, "eps": 1e-3, **DECAY}, 2e-6),
    ("adam", {"learning_rate": 0.01, "epsilon": 1e-3, "amsgrad": 1, "torch_formula": 1, **COUPLED},
     torch.optim.Adam, {"lr": 0.01, "eps": 1e-3, "amsgrad": True, **DECAY}, 2e-6),
    ("adamw", {"learning_rate": 0.01, "epsilon": 1e-3, "torch_formula": 1, **DECAY},
     torch.optim.AdamW, {"lr": 0.01, "eps": 1e-3, **DECAY}, 2e-6),
    ("rmsprop", {"learning_rate": 0.01, "rho": 0.99, "epsilon": 1e-3, "torch_formula": 1, **COUPLED},
     torch.optim.RMSprop, {"lr": 0.01, "eps": 1e-3, **DECAY}, 2e-6),
    ("rmsprop", {"learning_rate": 0.01, "rho": 0.99, "epsilon": 1e-3, "momentum": 0.9, "centered": 1,
                 "torch_formula": 1, **COUPLED},
     torch.optim.RMSprop, {"lr": 0.01, "eps": 1e-3, "momentum": 0.9, "centered": True, **DECAY}, 2e-6),
    ("adagrad", {"learning_rate": 0.1, "initial_accumulator_value": 0, "epsilon": 1e-3, "torch_formula": 1, **COUPLED},
     torch.optim.Adagrad, {"lr": 0.1, "eps": 1e-3, **DECAY}, 2e-6),
    ("adadelta", {"learning_rate": 1, "rho": 0.9, "epsilon": 1e-3, **COUPLED}, torch.optim.Adadelta, {"eps": 1e-3, **DECAY}, 2e-6),
    ("adamax", {"learning_rate": 0.01, "epsilon": 1e-3, "torch_formula": 1, **COUPLED},
     torch.optim.Adamax, {"lr": 0.01, "eps": 1e-3, **DECAY}, 2e-6),
    ("nadam", {"learning_rate": 0.01, "epsilon": 1e-3, "momentum_decay": 0.004, **COUPLED},
     torch.optim.NAdam, {"lr": 0.01, "eps": 1e-3, **DECAY}, 2e-6),
]
CASES.append(("radam", {"learning_rate": 0.01, "epsilon": 1e-3, **COUPLED},
              torch.optim.RAdam, {"lr": 0.01, "eps": 1e-3, **DECAY}, 2e-6))
if hasattr(torch.optim, "Muon"):
    # PyTorch takes its Newton-Schulz steps in bfloat16 whatever the parameter is, with 8 bits a number.
    CASES.append(("muon", {"learning_rate": 0.01, "torch_formula": 1, "weight_decay": 0.1},
                  torch.optim.Muon, {"lr": 0.01, "weight_decay": 0.1}, 3e-3))
else:
    print("left out: this PyTorch has no Muon")


def ours(program, name, options, initial, gradients):
    words = [name, len(options)]
    for option, value in options.items():
        words += [option, value]
    words += [len(SHAPE), *SHAPE, STEPS, *initial.flatten().tolist(), *gradients.flatten().tolist()]
    run = subprocess.run([program], input=" ".join(map(str, words)), capture_output=True, text=True, check=False)
    if run.returncode != 0:
        sys.exit(f"{name}: exit code {run.returncode}: {run.stderr}")
    return torch.tensor([float(word) for word in run.stdout.split()], dtype=torch.float64).reshape(STEPS, *SHAPE)


def theirs(optimizer, options, initial, gradients):
    parameter = torch.nn.Parameter(initial.to(torch.float64))
    steps = optimizer([parameter], **options)
    values = []
    for gradient in gradients:
        parameter.grad = gradient.to(torch.float64)
        steps.step()
        values.append(parameter.detach().clone())
    return torch.stack(values)


def main():
    program = sys.argv[1]
    generator = torch.Generator().manual_seed(1)
    failures = 0
    for number, (name, options, optimizer, torch_options, tolerance) in enumerate(CASES):
        initial = torch.randn(SHAPE, generator=generator)
        gradients = torch.randn((STEPS, *SHAPE), generator=generator)
        expected = theirs(optimizer, torch_options, initial, gradients)
        error = ((ours(program, name, options, initial, gradients) - expected).abs().max() / expected.abs().max()).item()
        moved = (expected[-1] - initial).abs().max().item()
        wrong = not error < tolerance or not moved > 0.01
        failures += wrong
        print(f"{'WRONG' if wrong else 'ok':6} case {number:2} {name:9} {torch_options}: error {error:.1e}, "
              f"below {tolerance:.0e}; weights moved by {moved:.2f}")
    print(f"{len(CASES)} cases against PyTorch {torch.__version__}, {failures} wrong")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
