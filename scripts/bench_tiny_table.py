"""Compare `reproduce wu2018/batch_size scale=tiny` with plain PyTorch scripts that train the same runs.

    python scripts/bench_tiny_table.py [--rounds 3] [--norms bn,gn,ln_chw,none] [--batches 32,16,8,4,2]
                                       [--seeds 5] [--epochs 12]

A plain script is what most users write: one run, torch's own layers, a DataLoader over the tensors, and one
evaluation at the end. As many scripts run at the same time as the machine has cores, each in its own process
with one thread and with all of its runs one after the other. Both sides train the same networks for the same
steps. Times are of whole commands, imports included. Rounds alternate between the two sides, because the
speed of a shared machine drifts. Ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

Run = tuple[str, int, int]  # norm, batch, seed


def plain(runs: list[Run], epochs: int) -> None:
    """Train runs one after the other with a plain script; print their test errors."""
    import torch
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split
    from torch import nn
    from torch.nn import functional as F
    from torch.utils.data import DataLoader, TensorDataset

    torch.set_num_threads(1)
    ink, labels = load_digits(return_X_y=True)
    split = train_test_split(ink, labels, test_size=500, random_state=0, stratify=labels)
    x, x_test = (torch.tensor(part, dtype=torch.float32) for part in split[:2])
    y, y_test = (torch.tensor(part) for part in split[2:])
    mean, std = x.mean(), x.std()
    x, x_test = (x - mean) / std, (x_test - mean) / std
    layers = {
        "bn": lambda: nn.BatchNorm1d(100), "gn": lambda: nn.GroupNorm(10, 100),
        "ln_chw": lambda: nn.GroupNorm(1, 100), "none": nn.Identity,
    }  # fmt: skip
    errors = []
    for norm, batch, seed in runs:
        torch.manual_seed(seed)
        hidden = [
            layer
            for inputs in (64, 100, 100)
            for layer in (nn.Linear(inputs, 100, bias=norm == "none"), layers[norm](), nn.ReLU())
        ]
        net = nn.Sequential(*hidden, nn.Linear(100, 10))
        loader = DataLoader(TensorDataset(x, y), batch_size=batch, shuffle=True, drop_last=True)
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05 * batch / 32, momentum=0.9, weight_decay=5e-4)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * len(loader))
        for _ in range(epochs):
            for images, targets in loader:
                loss = F.cross_entropy(net(images), targets)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
        net.eval()
        with torch.no_grad():
            errors.append((net(x_test).argmax(1) != y_test).double().mean().item())
    print(json.dumps(errors))


def time_plain(runs: list[Run], epochs: int, processes: int) -> tuple[float, list[float]]:
    began = time.perf_counter()
    words = [sys.executable, __file__, "--epochs", str(epochs), "--plain"]
    running = [
        subprocess.Popen([*words, json.dumps(runs[i::processes])], stdout=subprocess.PIPE, text=True)
        for i in range(processes)
    ]
    errors = [error for process in running for error in json.loads(process.communicate()[0])]
    return time.perf_counter() - began, errors


def time_normbench(args: argparse.Namespace) -> tuple[float, list[float]]:
    with tempfile.TemporaryDirectory() as results:
        words = [
            sys.executable, "-m", "normbench", "train", "model=mlp", "model.hidden=[100,100,100]",
            "data=digits", f"norm={args.norms}", f"batch={args.batches}", f"epochs={args.epochs}",
            f"seed=range({args.seeds})", "optim.lr=0.05", "optim.lr_reference=32", "tracking=none",
            "engine.device=cpu",
        ]  # fmt: skip
        began = time.perf_counter()
        environment = os.environ | {"NORMBENCH_RESULTS": results}
        subprocess.run(words, env=environment, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - began
        table = [sys.executable, "-m", "normbench", "table", "--rows", "norm", "--cols", "batch"]
        read = subprocess.run(
            [*table, "--format", "json"], env=environment, check=True, capture_output=True, text=True
        )
    return seconds, [value for cell in json.loads(read.stdout)["cells"] for value in cell["values"]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--norms", default="bn,gn,ln_chw,none")
    parser.add_argument("--batches", default="32,16,8,4,2")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--plain", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.plain:
        plain(json.loads(args.plain), args.epochs)
        return
    from normbench.autotune.cores import cores  # here: plain scripts must not pay for this import

    batches = map(int, args.batches.split(","))
    runs = list(itertools.product(args.norms.split(","), batches, range(args.seeds)))
    ratios = []
    for number in range(1, args.rounds + 1):
        theirs, their_errors = time_plain(runs, args.epochs, cores())
        ours, our_errors = time_normbench(args)
        ratios.append(theirs / ours)
        print(
            f"round {number}: plain {theirs:.1f} s ({statistics.mean(their_errors):.2%} mean error), "
            f"normbench {ours:.1f} s ({statistics.mean(our_errors):.2%}), ratio {ratios[-1]:.2f}",
            flush=True,
        )
    print(
        f"{len(runs)} runs of the tiny table, {cores()} processes: normbench is "
        f"{statistics.median(ratios):.2f}× the plain scripts (median of {args.rounds}; "
        f"{min(ratios):.2f} to {max(ratios):.2f})"
    )


if __name__ == "__main__":
    main()
