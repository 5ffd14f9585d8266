"""Measure how far the guess of a plan's time is off: whole trainings against seconds guessed from bytes.

    python scripts/bench_guess.py [--seconds 3] [--models lenet5,vgg11] [norm=gn …]

Every workload trains once in one process with one thread, alone and in a stack of the default width. The
number of steps is chosen so that the guess is about --seconds. Images are random; 500 of them are evaluated
at the end. Words of a train command, such as norm=gn, hold for all rows. The true seconds are core time,
because a plan supposes that the cores are free. Prints a Markdown table. The last line gives the factor that
holds for all rows.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import torch

from normbench import data, models
from normbench.autotune.default_widths import default_width
from normbench.autotune.tuner import Tuner
from normbench.config.compose import compose
from normbench.config.resolve import resolve
from normbench.engine.device import device_name
from normbench.engine.train import train_stack
from normbench.spec import RunSpec
from normbench.sweeps.provenance import commit

MODELS = {"mlp": (1, 8), "lenet5": (1, 28), "resnet20": (3, 32), "vgg11": (3, 32)}  # channels, size
BATCHES = (2, 32)
CPU = torch.device("cpu")


def run_of(model: str, batch: int, own: Sequence[str]) -> RunSpec:
    """A run with default settings but for the given words, on random images."""
    channels, size = MODELS[model]
    words = [
        f"model={model}", f"batch={batch}", "steps=1", "engine.device=cpu", "data=synthetic",
        f"data.channels={channels}", f"data.size={size}", "data.train_size=2000", "data.test_size=500",
    ]  # fmt: skip
    return resolve(compose([*words, *own])[0]).spec


def measure(spec: RunSpec, lanes: int, seconds: float, cache: Path) -> tuple[int, float, float]:
    """Train a stack for a guessed time: its steps, the guessed seconds and the true core seconds."""

    def runs(steps: int) -> Sequence[RunSpec]:
        return [spec.model_copy(update={"seed": seed, "steps": steps}) for seed in range(lanes)]

    tuner = Tuner(cache, stacks=1)
    one, two = tuner.seconds(runs(1)), tuner.seconds(runs(2))
    steps = max(10, round((seconds - one) / (two - one)))
    dataset = data.load(spec.data, size=models.fitted_size(spec))
    train_stack(runs(1), dataset, CPU)  # the first step of a process is slower
    began = time.process_time()
    train_stack(runs(steps), dataset, CPU)
    return steps, tuner.seconds(runs(steps)), time.process_time() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="guessed time of each training")
    parser.add_argument("--models", default=",".join(MODELS), help="default: all of them")
    parser.add_argument("words", nargs="*", metavar="key=value", help="words of a train command")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f"Commit {commit()}, {date.today()}, one core of {device_name(CPU)}, torch {torch.__version__}.\n")
    print("| model | batch | lanes | steps | guess, s | true, s | guess / true |\n" + "|---" * 7 + "|")
    factors = []
    with tempfile.TemporaryDirectory() as cache:
        for model in args.models.split(","):
            for batch in BATCHES:
                spec = run_of(model, batch, args.words)
                for lanes in sorted({1, default_width(spec)}):
                    steps, guess, true = measure(spec, lanes, args.seconds, Path(cache))
                    factors.append(max(guess / true, true / guess))
                    cells = [model, batch, lanes, steps, f"{guess:.2f}", f"{true:.2f}", f"{guess / true:.2f}"]
                    print("| " + " | ".join(map(str, cells)) + " |", flush=True)
    print(f"\nThe guess is right within a factor of {max(factors):.1f} in all {len(factors)} rows.")


if __name__ == "__main__":
    main()
