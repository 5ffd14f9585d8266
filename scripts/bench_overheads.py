"""Measure the overheads of normbench: the time to the first step, per run, of a plan, and of wandb.

    NORMBENCH_DATA=... python scripts/bench_overheads.py [--rounds 3] [--steps 4000]

Prints a Markdown table. Times are of whole commands on a CPU, imports included. Tracking compares wandb's
offline mode with no tracking; choose --steps so that this sweep takes about a minute.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import torch

from normbench.autotune.cores import cores
from normbench.engine.device import device_name
from normbench.sweeps.provenance import commit

LENET = ["model=lenet5", "data=mnist", "batch=2", "engine.device=cpu"]
TINY = ["model=mlp", "data=digits", "batch=16", "steps=1", "eval.statistics=[running]", "tracking=none"]
#: Runs a command up to the end of its first step, and prints the time of that moment.
FIRST_STEP = """
import os, sys, time
from normbench.cli import main
from normbench.sweeps import get_or_train as run
def patched(*args, train=run.train, **how):
    from normbench.engine.step import Step
    def call(self, number, call=Step.__call__):
        call(self, number)
        print(time.time(), flush=True)
        os._exit(0)
    Step.__call__ = call
    return train(*args, **how)
run.train = patched
sys.argv[0] = "normbench"
main()
"""


def command(words: Sequence[str], results: Path, verb: str = "train") -> tuple[float, float]:
    """Seconds that a command takes, and seconds of core time of all its processes."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    environment = os.environ | {"NORMBENCH_RESULTS": str(results), "WANDB_MODE": "offline"}
    words = [sys.executable, "-m", "normbench", verb, *words]
    subprocess.run(words, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def first_step(results: Path) -> float:
    """Seconds from the start of a command to the end of its first step."""
    words = [*LENET, "steps=2", "tracking=none", "engine.processes=1"]
    environment = os.environ | {"NORMBENCH_RESULTS": str(results)}
    began = time.time()
    ended = subprocess.check_output([sys.executable, "-c", FIRST_STEP, "train", *words], env=environment)
    return float(ended.split()[-1]) - began


def per_run(folder: Path, few: int = 40, many: int = 400) -> float:
    """Seconds that one more run of a sweep takes in addition to its training."""
    beyond = []
    for runs in (few, many):
        results = folder / str(runs)
        seconds, _ = command([*TINY, f"seed=range({runs})"], results)
        files = results.glob("runs/*/*/record.json")
        training = sum(json.loads(file.read_text())["timing"]["train_s"] for file in files)
        beyond.append(seconds - training / cores())
    return (beyond[1] - beyond[0]) / (many - few)


def tracked(folder: Path, steps: int, order: Sequence[str]) -> tuple[float, float, float]:
    """Ratios of wall time and core time of a sweep with wandb to one without, and the seconds without."""
    words = [*LENET, "seed=range(16)", f"steps={steps}", "eval.every=500"]
    took = {tracking: command([*words, f"tracking={tracking}"], folder / tracking) for tracking in order}
    (wall, core), (plain_wall, plain_core) = took["wandb"], took["none"]
    return wall / plain_wall, core / plain_core, plain_wall


def spread(values: Sequence[float], form: str) -> str:
    median, least, most = (form.format(f(values)) for f in (statistics.median, min, max))
    return f"{median} ({least} to {most})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4000, help="of the 16 runs that are tracked")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        command([*LENET, "steps=1", "tracking=none"], folder / "warm")
        firsts, plans, further, walls, busy, lengths = [], [], [], [], [], []
        for number in range(args.rounds):
            here = folder / str(number)
            firsts.append(first_step(folder / "warm"))
            plans.append(command([*LENET, "norm=bn,gn,ln_chw,rms", "seed=range(100)"], here, "plan")[0])
            further.append(per_run(here))
            order = ("wandb", "none") if number % 2 else ("none", "wandb")
            wall, core, seconds = tracked(here, args.steps, order)
            walls.append(wall)
            busy.append(core)
            lengths.append(seconds)
    about = f"Commit {commit()}, {date.today()}, {device_name(torch.device('cpu'))}, {cores()} cores"
    print(f"{about}, torch {torch.__version__}; median of {args.rounds} rounds (lowest to highest).\n")
    print("| what | measured |\n|---|---|")
    print(f"| LeNet-5, MNIST in the cache: first step after the command, s | {spread(firsts, '{:.1f}')} |")
    print(f"| `plan` of 400 runs, s | {spread(plans, '{:.1f}')} |")
    print(f"| a further run of a 400-run sweep beyond its training, s | {spread(further, '{:.4f}')} |")
    sweep = f"a sweep of {statistics.median(lengths):.0f} s with wandb, over that without"
    print(f"| {sweep}: time | {spread(walls, '{:.3f}')} |")
    print(f"| the same, core time of all processes | {spread(busy, '{:.3f}')} |")


if __name__ == "__main__":
    main()
