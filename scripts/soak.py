"""Train many tiny runs in one sweep, and see whether memory or time per run grows.

scripts/soak.py 2000            2,000 runs, each a stack of its own, in two worker processes
scripts/soak.py 200 --keep DIR  fewer, and leaves the results in DIR

Prints a line per quarter of the runs: resident memory of the parent and of all workers, and processor time
per run of both. Processor time hardly depends on what else runs on the machine. Exits with 1 if the last
quarter needs clearly more than the second one. The first one has the start of Python and torch.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

WORDS = [
    "model=mlp", "model.hidden=[8]", "data=synthetic", "data.train_size=64", "data.test_size=16",
    "data.size=8", "batch=8", "steps=10", "norm=bn,gn", "tracking=none", "engine.device=cpu",
    "engine.lanes=1", "engine.processes=2",
]  # fmt: skip
#: Seconds between two looks.
LOOK_S = 0.2
#: The last quarter may have so many times the memory and the processor time per run of the second one …
MEMORY, TIME = 1.05, 1.25
#: … and so many bytes more.
ROOM = 8 * 2**20
_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Look:
    """What the sweep has used at one moment.

    Attributes:
        runs:      number of ended runs.
        parent:    bytes of the command.
        workers:   bytes of its worker processes.
        parent_s:  processor seconds of the command so far.
        workers_s: processor seconds of its worker processes so far.
    """

    runs: int
    parent: int
    workers: int
    parent_s: float
    workers_s: float


def soak(runs: int, results: Path) -> tuple[list[Look], int]:
    """Train, and look all the while. Returns the looks and the exit code."""
    words = [*WORDS, f"seed=range({runs // 2})", f"confirm_above={runs}"]
    environment = os.environ | {"NORMBENCH_RESULTS": str(results), "OMP_NUM_THREADS": "1"}
    command = subprocess.Popen(
        [sys.executable, "-m", "normbench", "train", *words],
        env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    looks = []
    while command.poll() is None:
        ended = sum(1 for _ in results.glob("runs/*/*/record.json"))
        parent, workers = usage([command.pid]), usage(children_of(command.pid))
        looks.append(Look(ended, parent[0], workers[0], parent[1], workers[1]))
        time.sleep(LOOK_S)
    assert command.stderr is not None
    sys.stderr.write(command.stderr.read())
    return looks, command.returncode


def usage(pids: Sequence[int]) -> tuple[int, float]:
    """Resident bytes and processor seconds of processes."""
    size, seconds = 0, 0.0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # it has ended
            continue
        size += int(fields[21]) * _PAGE
        seconds += (int(fields[11]) + int(fields[12])) / _TICK
    return size, seconds


def children_of(pid: int) -> list[int]:
    try:
        return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    except OSError:
        return []


@dataclass(frozen=True)
class Quarter:
    """Memory in bytes and processor seconds per run, of the parent and of the workers."""

    parent: float
    workers: float
    parent_s: float
    workers_s: float


def quarters(looks: Sequence[Look], runs: int) -> list[Quarter]:
    """The four quarters of a sweep, by ended runs.

    Raises:
        SystemExit: there are too few looks.
    """
    found = []
    for number in range(4):
        these = [look for look in looks if number * runs / 4 <= look.runs < (number + 1) * runs / 4]
        if len(these) < 3 or these[-1].runs == these[0].runs:
            raise SystemExit("too few runs: a quarter must take a second")
        first, last = these[0], these[-1]
        ended = last.runs - first.runs
        found.append(
            Quarter(
                median(look.parent for look in these),
                median(look.workers for look in these),
                (last.parent_s - first.parent_s) / ended,
                (last.workers_s - first.workers_s) / ended,
            )
        )
    return found


def growth(found: Sequence[Quarter]) -> list[str]:
    """What the last quarter needs clearly more of than the second one, in words."""
    second, last = found[1], found[-1]
    said = [
        f"memory of the {name} has grown from {before / 2**20:.0f} to {after / 2**20:.0f} MiB"
        for name, before, after in (
            ("parent", second.parent, last.parent), ("workers", second.workers, last.workers),
        )
        if after > MEMORY * before + ROOM
    ]  # fmt: skip
    before, after = second.parent_s + second.workers_s, last.parent_s + last.workers_s
    if after > TIME * before:
        said.append(f"processor time per run has grown from {1000 * before:.1f} to {1000 * after:.1f} ms")
    return said


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=int, nargs="?", default=2000)
    parser.add_argument("--keep", type=Path, help="folder for the results, which stay")
    args = parser.parse_args()
    results = args.keep or Path(tempfile.mkdtemp(prefix="normbench-soak-"))
    began = time.monotonic()
    try:
        looks, code = soak(args.runs, results)
        ended = sum(1 for _ in results.glob("runs/*/*/record.json"))
    finally:
        if args.keep is None:
            shutil.rmtree(results, ignore_errors=True)
    print(f"{ended} of {args.runs} runs in {time.monotonic() - began:.0f} s, exit code {code}")
    found = quarters(looks, args.runs)
    print("quarter  parent MiB  workers MiB  parent ms/run  workers ms/run")
    for number, each in enumerate(found, 1):
        print(
            f"{number:>7}  {each.parent / 2**20:>10.0f}  {each.workers / 2**20:>11.0f}  "
            f"{1000 * each.parent_s:>13.2f}  {1000 * each.workers_s:>14.2f}"
        )
    said = growth(found)
    print("\n".join(said) or "memory and time per run are flat")
    return int(bool(said) or code != 0 or ended != args.runs)


if __name__ == "__main__":
    sys.exit(main())
