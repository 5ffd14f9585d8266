"""Compare a sweep of eight learning rates with one of them alone: LeNet-5 with batch norm, on one core.

    NORMBENCH_DATA=... python scripts/bench_learning_rates.py [--data digits --data mnist] [--steps 1500]

Whole commands, with imports, reading the data, measurements and evaluation; each starts with an empty results
folder. Rounds alternate. Processor time is user + system time of a command and its children; trust it if
other programs share the machine. Prints a Markdown table, and the test errors of the last round.
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
from datetime import date
from pathlib import Path

import torch

from normbench.sweeps.provenance import commit

RATES = ("0.1", "0.001", "0.003", "0.01", "0.03", "0.3", "1", "3")


def train(data: str, batch: int, steps: int, rates: tuple[str, ...]) -> tuple[float, float, dict[str, str]]:
    """Processor seconds and seconds of one command, and the test error by learning rate."""
    with tempfile.TemporaryDirectory() as results:
        words = [
            sys.executable, "-m", "normbench", "train", "model=lenet5", f"data={data}", "norm=bn",
            f"batch={batch}", f"steps={steps}", f"optim.lr={','.join(rates)}", "tracking=none",
            "engine.processes=1", "engine.device=cpu",
        ]  # fmt: skip
        environment = os.environ | {"NORMBENCH_RESULTS": results, "OMP_NUM_THREADS": "1"}
        before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(words, env=environment, check=True, stdout=subprocess.DEVNULL)
        seconds, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
        records = [json.loads(file.read_text()) for file in Path(results).glob("runs/*/*/record.json")]
    assert len(records) == len(rates)
    errors = {str(r["spec"]["optim"]["lr"]): r["metrics"]["test_error"] for r in records}
    texts = {rate: "diverged" if e is None else f"{100 * e:.2f} %" for rate, e in sorted(errors.items())}
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return used, seconds, texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", action="append")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print(
        f"Commit {commit()}, {date.today()}, one CPU core, torch {torch.__version__}, batch {args.batch}, "
        f"{args.steps} steps, medians of {args.rounds} rounds.\n"
    )
    print("| data | processor s, one rate | eight | ratio | wall s, one rate | eight | ratio |")
    print("|---|---|---|---|---|---|---|")
    found = {}
    for data in args.data or ["digits", "mnist"]:
        alone, together = [], []
        for _ in range(args.rounds):
            alone.append(train(data, args.batch, args.steps, RATES[:1]))
            together.append(train(data, args.batch, args.steps, RATES))
        found[data] = together[-1][2]
        row = data
        for kind in (0, 1):
            one, eight = (statistics.median(r[kind] for r in runs) for runs in (alone, together))
            row += f" | {one:.1f} | {eight:.1f} | {eight / one:.2f}"
        print(f"| {row} |", flush=True)
    for data, errors in found.items():
        print(f"\nTest errors of {data}: {', '.join(f'{rate} {error}' for rate, error in errors.items())}.")


if __name__ == "__main__":
    main()
