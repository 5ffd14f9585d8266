"""Compare evaluation through one stack with lone folded networks, and the time of diagnostics with a run.

    NORMBENCH_DATA=... python scripts/bench_evaluation.py [--lanes 16] [--rounds 5] [--images 10000]

LeNet-5 with batch norm on MNIST, one thread. Rounds alternate, each contestant counts its least processor
time, and a ratio below 1 means that the stack is faster:

    lone    K networks of torch's own layers with the norms folded by `norms.fold`, one after another, each
            at the fastest of several batch sizes; loss and error are computed alike
    stack   `engine.evaluate` of K lanes, folding included

Then a run on the digits and one on MNIST train with all cheap diagnostics at their default cadence, and the
script prints their share of the runs' time. That of a longer run follows, because the reading costs the same.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from normbench import data, models, norms
from normbench.bench.plain_network import plain_network
from normbench.config.compose import compose
from normbench.config.resolve import resolve
from normbench.data.batches import test_batches
from normbench.data.dataset import Dataset
from normbench.diagnostics import CATALOGUE, Diagnostic
from normbench.engine.evaluate import evaluate
from normbench.engine.probes.along_training import Along
from normbench.engine.probes.registry import probe_of
from normbench.engine.stack import Stack
from normbench.engine.train import train_stack
from normbench.spec import RunSpec
from normbench.sweeps.provenance import commit

CPU = torch.device("cpu")
#: Batch sizes of a lone network.
SIZES = (64, 128, 256)


def spec_of(*words: str) -> RunSpec:
    own = ["model=lenet5", "norm=bn", "tracking=none", "engine.device=cpu"]
    return resolve(compose([*own, *words])[0]).spec


def lone(net: nn.Module, dataset: Dataset, size: int) -> tuple[Tensor, Tensor]:
    """Sum of losses and number of errors of one network over the test split."""
    loss, errors = torch.zeros(2, dtype=torch.float64)
    with torch.no_grad():
        for x, y in test_batches(dataset, size, channels_last=True):
            logits = net(x)
            loss += F.cross_entropy(logits, y, reduction="sum")
            errors += (logits.argmax(1) != y).sum()
    return loss, errors


def seconds(call: Callable[[], object]) -> float:
    """Processor seconds of a call."""
    began = time.process_time()
    call()
    return time.process_time() - began


def evaluation(lanes: int, rounds: int, images: int) -> None:
    """Print the least times and their ratio."""
    specs = [spec_of("data=mnist", "batch=32", f"seed={seed}") for seed in range(lanes)]
    dataset = data.load(specs[0].data, size=models.fitted_size(specs[0]))
    dataset = replace(
        dataset, test_images=dataset.test_images[:images], test_labels=dataset.test_labels[:images]
    )
    stack = Stack(specs, dataset, CPU)
    plain = plain_network(specs[0], dataset.shape).eval()
    net = norms.fold(plain).to(memory_format=torch.channels_last)
    least: dict[str, float] = {}
    for _ in range(rounds):
        for size in SIZES:
            took = lanes * seconds(lambda size=size: lone(net, dataset, size))  # type: ignore[misc]
            name = f"{lanes} lone folded networks, batches of {size}"
            least[name] = min(took, least.get(name, took))
        took = seconds(lambda: evaluate(stack.network, dataset, specs[0]))
        least[f"stack of {lanes}"] = min(took, least.get(f"stack of {lanes}", took))
    print("| evaluation | s |\n|---|---|")
    for name, took in least.items():
        print(f"| {name} | {took:.2f} |")
    mine = least.pop(f"stack of {lanes}")
    print(f"\nStack over the fastest lone networks: {mine / min(least.values()):.2f}\n", flush=True)


def diagnostics(name: str, steps: int) -> None:
    """Print the share of a run's time that all cheap diagnostics take; by default they read at its end."""
    cheap = [known for known in CATALOGUE if probe_of(Diagnostic(known)).cheap]
    words = [f"data={name}", "batch=32", f"diagnostics=[{','.join(cheap)}]"]
    whole = spec_of(*words)
    dataset = data.load(whole.data, size=models.fitted_size(whole))
    default = whole.length(len(dataset.train_labels))
    steps = min(steps, default)
    spent = 0.0
    read = Along.read

    def timed(self: Along, *args: Any) -> None:
        nonlocal spent
        spent += seconds(lambda: read(self, *args))

    with mock.patch.object(Along, "read", timed):
        took = seconds(lambda: train_stack([spec_of(*words, f"steps={steps}")], dataset, CPU))
    longer = (took - spent) * default / steps + spent
    print(
        f"{len(cheap)} cheap diagnostics, {name}, batch 32: {spent:.2f} s. A run of {steps} steps takes "
        f"{took:.2f} s with them, their share is {100 * spent / took:.1f} %. In a run of the default length "
        f"({default} steps, in proportion) it is {100 * spent / longer:.1f} %.",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--lanes", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=1875, help="most steps of the runs with diagnostics")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"Commit {commit()}, {date.today()}, one CPU core, torch {torch.__version__}, LeNet-5, MNIST, "
          f"{args.images} images.\n")  # fmt: skip
    evaluation(args.lanes, args.rounds, args.images)
    for name in ("digits", "mnist"):
        diagnostics(name, args.steps)


if __name__ == "__main__":
    main()
