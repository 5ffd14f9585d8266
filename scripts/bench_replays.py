"""Compare steps that are replayed with steps that are not, on one CPU core.

    python scripts/bench_replays.py [--rounds 5] [--seconds 0.5]

Both kinds of step train the same stack, in turn in every round, because the speed of a shared machine drifts.
Prints the medians and the ratios within rounds.
"""

from __future__ import annotations

import argparse
import statistics

import torch

from normbench import data, models
from normbench.bench.clock import timed
from normbench.config.compose import compose
from normbench.config.resolve import resolve
from normbench.engine.device import numerics
from normbench.engine.freed_memory import keep_freed_memory
from normbench.engine.stack import Stack

IMAGES = ["data=synthetic", "data.train_size=512", "data.test_size=16"]
MODELS = {
    "mlp": ["model=mlp", "model.hidden=[100,100,100]", "data=digits"],
    "lenet5": ["model=lenet5", *IMAGES, "data.channels=1", "data.size=28"],
    "resnet20": [
        "model=resnet20",
        *IMAGES,
        "data.channels=3",
        "data.size=32",
        "data.crop=4",
        "data.flip=true",
    ],
}
CASES = [
    *(("mlp", norm, batch, lanes) for norm in ("bn", "gn") for batch in (2, 32) for lanes in (1, 5, 16)),
    *(("lenet5", "bn", batch, lanes) for batch in (2, 32) for lanes in (1, 5, 16)),
    ("resnet20", "bn", 2, 1),
    ("resnet20", "bn", 2, 4),
]  # fmt: skip
CPU = torch.device("cpu")


def stack_of(words: list[str], norm: str, batch: int, lanes: int, graphs: str) -> Stack:
    """A stack of runs that no measurement ends."""
    asked = [
        *words, f"norm={norm}", f"batch={batch}", f"seed=range({lanes})", "steps=1000000000", "tracking=none",
        "engine.device=cpu", f"engine.graphs={graphs}",
    ]  # fmt: skip
    specs = [resolve(config).spec for config in compose(asked)]
    size = models.fitted_size(specs[0])
    return Stack(specs, data.load(specs[0].data, size=size), CPU)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    print("net       norm  batch  lanes  not replayed, ms  replayed, ms  ratio (lowest to highest round)")
    for name, norm, batch, lanes in CASES:
        stacks = [stack_of(MODELS[name], norm, batch, lanes, graphs) for graphs in ("false", "true")]
        times: list[list[float]] = [[], []]
        numbers = [0, 0]
        with numerics(stacks[0].spec.engine, CPU):
            for _ in range(args.rounds + 1):
                for side, stack in enumerate(stacks):
                    done, passed = timed(stack.step, numbers[side], args.seconds, CPU)
                    numbers[side] += done
                    times[side].append(1000 * passed / done)
        plain, replayed = (each[1:] for each in times)  # the first round warms up
        ratios = [a / b for a, b in zip(plain, replayed, strict=True)]
        print(
            f"{name:<9} {norm:<5} {batch:>5} {lanes:>6}  {statistics.median(plain):>16.3f} "
            f"{statistics.median(replayed):>13.3f}  {statistics.median(ratios):.2f} "
            f"({min(ratios):.2f} to {max(ratios):.2f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
