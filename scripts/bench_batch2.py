"""Compare normbench with plain PyTorch loops: LeNet-5 with batch norm at batch 2 on MNIST.

    NORMBENCH_DATA=... python scripts/bench_batch2.py [--seeds 16] [--steps 5000] [--batch 2] [--rounds 3]

The plain loop is what a careful user writes. The data are in memory, padded and standardised before; there is
no loader. There is one process per core, with one thread each. A process trains its share of the seeds one
after the other. Both sides train the same seeds for the same steps and evaluate the test split once per run.
The times are of whole commands, imports included. Rounds alternate between the two sides, because the speed
of a shared machine drifts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time


def plain(seeds: list[int], steps: int, batch: int) -> None:
    """Train seeds one after the other with a plain training loop; print their test errors."""
    import torch
    from torch import nn
    from torch.nn import functional as F
    from torchvision.datasets import MNIST

    torch.set_num_threads(1)
    root = os.environ["NORMBENCH_DATA"]

    def split(train: bool) -> tuple[torch.Tensor, torch.Tensor]:
        data = MNIST(root, train=train, download=False)
        images = F.pad(data.data[:, None].float() / 255, (2, 2, 2, 2))
        return (images - 0.1000) / 0.2752, data.targets

    (x, y), (x_test, y_test) = split(True), split(False)
    errors = []
    for seed in seeds:
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.Conv2d(1, 6, 5, bias=False), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5, bias=False), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(400, 120, bias=False), nn.BatchNorm1d(120), nn.ReLU(),
            nn.Linear(120, 84, bias=False), nn.BatchNorm1d(84), nn.ReLU(), nn.Linear(84, 10),
        )  # fmt: skip
        optimizer = torch.optim.SGD(
            net.parameters(), lr=0.1 * batch / 128, momentum=0.9, weight_decay=5e-4, fused=True
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        order = torch.randperm(len(x))
        net.train()
        for step in range(steps):
            start = step * batch % (len(x) - batch + 1)
            index = order[start : start + batch]
            loss = F.cross_entropy(net(x[index]), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        net.eval()
        with torch.no_grad():
            wrong = sum(
                (net(a).argmax(1) != b).sum().item()
                for a, b in zip(x_test.split(1000), y_test.split(1000), strict=True)
            )
        errors.append(wrong / len(x_test))
    print(json.dumps(errors))


def time_plain(seeds: int, steps: int, batch: int, processes: int) -> tuple[float, list[float]]:
    began = time.perf_counter()
    shares = [list(range(seeds))[i::processes] for i in range(processes)]
    words = [sys.executable, __file__, "--steps", str(steps), "--batch", str(batch), "--plain"]
    running = [
        subprocess.Popen([*words, json.dumps(share)], stdout=subprocess.PIPE, text=True) for share in shares
    ]
    errors = [error for process in running for error in json.loads(process.communicate()[0])]
    return time.perf_counter() - began, errors


def time_normbench(seeds: int, steps: int, batch: int) -> tuple[float, list[float]]:
    with tempfile.TemporaryDirectory() as results:
        environment = os.environ | {"NORMBENCH_RESULTS": results}
        words = [
            sys.executable, "-m", "normbench", "train", "model=lenet5", "data=mnist", "norm=bn",
            f"batch={batch}", f"seed=range({seeds})", f"steps={steps}", "tracking=none",
            "eval.statistics=[running]",
        ]  # fmt: skip
        began = time.perf_counter()
        subprocess.run(words, env=environment, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - began
        table = [
            sys.executable,
            "-m",
            "normbench",
            "table",
            "--rows",
            "norm",
            "--cols",
            "batch",
            "--format",
            "json",
        ]
        read = subprocess.run(table, env=environment, check=True, capture_output=True, text=True)
    return seconds, json.loads(read.stdout)["cells"][0]["values"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plain", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.plain:
        plain(json.loads(args.plain), args.steps, args.batch)
        return
    from normbench.autotune.cores import (
        cores,
    )  # here: plain loops must not pay for this import

    processes = cores()
    ratios = []
    for number in range(1, args.rounds + 1):
        theirs, their_errors = time_plain(args.seeds, args.steps, args.batch, processes)
        ours, our_errors = time_normbench(args.seeds, args.steps, args.batch)
        ratios.append(theirs / ours)
        print(
            f"round {number}: plain {theirs:.1f} s ({statistics.mean(their_errors):.2%} error), "
            f"normbench {ours:.1f} s ({statistics.mean(our_errors):.2%} error), ratio {ratios[-1]:.2f}",
            flush=True,
        )
    print(
        f"LeNet-5 BN batch {args.batch}, {args.seeds} seeds × {args.steps} steps, {processes} processes: "
        f"normbench is {statistics.median(ratios):.2f}× the plain loop (median of {args.rounds}; "
        f"{min(ratios):.2f} to {max(ratios):.2f})"
    )


if __name__ == "__main__":
    main()
