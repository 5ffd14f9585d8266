"""Compare a sweep of eight momenta with one of them alone: LeNet-5 with batch norm on MNIST, on one core.

    NORMBENCH_DATA=... python scripts/bench_momentum.py [--batch 2 --batch 32] [--steps 3000] [--rounds 3]

The times of training are those in the records: with evaluation, without imports. Rounds alternate. Prints a
Markdown table, and the test errors of the last round by momentum.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

import torch

from normbench.sweeps.provenance import commit

MOMENTA = ("0.1", "0.9", "0.5", "0.01", "0.001", "cumulative", "debiased:0.01", "linear:0.5:0.001")


def train(batch: int, steps: int, momenta: tuple[str, ...]) -> tuple[float, dict[str, float]]:
    """Seconds of training, and the test error by momentum."""
    with tempfile.TemporaryDirectory() as results:
        words = [
            sys.executable, "-m", "normbench", "train", "model=lenet5", "data=mnist", "norm=bn",
            f"batch={batch}", f"steps={steps}", f"norm.momentum={','.join(momenta)}", "tracking=none",
            "engine.processes=1", "engine.device=cpu",
        ]  # fmt: skip
        environment = os.environ | {"NORMBENCH_RESULTS": results, "OMP_NUM_THREADS": "1"}
        subprocess.run(words, env=environment, check=True, stdout=subprocess.DEVNULL)
        records = [json.loads(file.read_text()) for file in Path(results).glob("runs/*/*/record.json")]
    assert len(records) == len(momenta)
    errors = {str(r["spec"]["norm"]["momentum"]): r["metrics"]["test_error"] for r in records}
    return max(r["timing"]["stack_s"] for r in records), errors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batch", type=int, action="append")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print(
        f"Commit {commit()}, {date.today()}, one CPU core, torch {torch.__version__}, {args.steps} steps.\n"
    )
    print("| batch | one momentum, s | eight, s | ratio of medians |\n|---|---|---|---|")
    found = {}
    for batch in args.batch or [2, 32]:
        alone, together = [], []
        for _ in range(args.rounds):
            alone.append(train(batch, args.steps, MOMENTA[:1])[0])
            seconds, found[batch] = train(batch, args.steps, MOMENTA)
            together.append(seconds)
        one, eight = statistics.median(alone), statistics.median(together)
        print(f"| {batch} | {one:.1f} | {eight:.1f} | {eight / one:.2f} |", flush=True)
    for batch, errors in found.items():
        line = ", ".join(f"{momentum} {100 * error:.2f} %" for momentum, error in errors.items())
        print(f"\nTest errors at batch {batch}: {line}.")


if __name__ == "__main__":
    main()
