"""Kill training at random moments, and count what is lost, torn, double or orphaned.

scripts/crash.py 200            200 kills over all stages; prints one line per stage and the counts
scripts/crash.py 20 --seed 3    other moments

A sweep of six runs trains in forked processes, often two at a time on one store. Each is killed (SIGKILL) at
one of its steps, file operations or lease operations, before or after it. After at most eight kills the sweep
is trained to its end and compared with one that was never killed. In the stage `workers` the whole command
runs with worker processes, and the command, a worker or both are killed at a random time.

    lost      a run without a result at the end, or with another result than without kills
    torn      a file that a reader cannot read, at any time
    double    a run that two living processes trained at the same time, or whose result was written twice
    orphaned  a lease, checkpoint or temporary file that is left when all runs are finished

Results must be equal bit for bit if a run always trained in the stack in which it would have been. Otherwise
they must agree within rounding. Exits with 1 if a count is not 0.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from safetensors.torch import load_file

from normbench import events, leases
from normbench.config.compose import compose
from normbench.config.sweep import resolve_sweep
from normbench.engine.stack import Stack
from normbench.engine.step import Step
from normbench.record import Record
from normbench.spec import Resolved
from normbench.store import Store
from normbench.sweeps import checkpointer, checkpoints, waiting
from normbench.sweeps.get_or_train import Sweep

WORDS = [
    "model=mlp", "model.hidden=[8]", "data=synthetic", "data.train_size=64", "data.test_size=16",
    "data.size=8", "batch=8", "steps=40", "norm=bn,gn", "seed=range(3)", "tracking=none", "engine.device=cpu",
    "keep_weights=true", "engine.lanes=2",
]  # fmt: skip
HERE = "engine.processes=1"
STAGES = ("training", "packing", "writing", "syncing", "leases", "workers")
#: Of so many kills, one is of a command with worker processes, which takes seconds to start.
WORKERS = 20
#: Seconds after which a process that was not killed counts as hanging.
LIMIT_S = 120.0
#: Relative difference of losses that regrouped lanes may have in single precision.
ROUNDING = 1e-3


class Trap:
    """Kills this process at the n-th operation of a stage; with n = 0 it only counts them."""

    def __init__(self, stage: str, at: int, *, before: bool) -> None:
        self.stage, self.at, self.before = stage, at, before
        self.counts: Counter[str] = Counter()
        self.in_leases = 0
        self.diary: Diary | None = None

    def arm(self) -> None:
        """Wrap the operations of all stages."""
        self._wrap("training", Step, "__call__")
        self._wrap("packing", Sweep, "_check")
        self._wrap("packing", Stack, "__init__")
        self._wrap("packing", checkpoints, "load")
        self._wrap("packing", checkpoints, "_fault")
        for name in ("take", "renew", "holds", "release", "remove"):
            self._wrap("leases", leases, name, leases_too=True)
        for name in ("replace", "link", "unlink", "rename", "mkdir"):
            self._wrap("writing", os, name)
        self._wrap("syncing", os, "fsync")

    def _wrap(self, stage: str, owner: Any, name: str, *, leases_too: bool = False) -> None:
        real = getattr(owner, name)

        def trapped(*args: Any, **options: Any) -> Any:
            here = "leases" if self.in_leases and stage == "writing" else stage
            self.counts[here] += 1
            mine = self.at and here == self.stage and self.counts[here] == self.at
            if mine and self.before:
                self._die()
            self.in_leases += leases_too
            try:
                return real(*args, **options)
            finally:
                self.in_leases -= leases_too
                if mine:
                    self._die()

        setattr(owner, name, trapped)

    def _die(self) -> None:
        if self.diary is not None:
            self.diary.write("death", [])  # on the spot: whoever waits for this process hears of it later
        os.kill(os.getpid(), signal.SIGKILL)


class Diary:
    """An observer that appends to a file which processes share: who trains what, and since when."""

    def __init__(self, file: Path) -> None:
        self.descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def notify(self, event: events.Event) -> None:
        if isinstance(event, events.StackStarted):
            self.write("start", event.signatures)
        elif isinstance(event, events.StackSplit | events.StackPaused):
            self.write("stop", event.signatures)
        elif isinstance(event, events.RunEnded):
            self.write("end", [event.record.signature])

    def write(self, what: str, signatures: Any) -> None:
        """Append a line, with the time on the clock that all processes of this machine share."""
        line = {"what": what, "runs": list(signatures), "pid": os.getpid(), "time": time.monotonic()}
        os.write(self.descriptor, (json.dumps(line) + "\n").encode())

    def close(self) -> None:
        """Does nothing: the process ends now."""


@dataclass
class Suite:
    """The kills so far, and the counts."""

    kills: int
    random: random.Random
    reference: dict[str, tuple[Record, dict[str, torch.Tensor], tuple[Any, ...], tuple[str, ...]]]
    ceilings: dict[str, int]
    killed: Counter[str] = field(default_factory=Counter)
    faults: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in FAULTS})
    bits: Counter[str] = field(default_factory=Counter)

    def run(self) -> None:
        """Kill until there were enough kills, in rounds of one store each."""
        plan = [STAGES[i % 5] for i in range(self.kills - self.kills // WORKERS)]
        plan += ["workers"] * (self.kills // WORKERS)
        self.random.shuffle(plan)
        while plan:
            with tempfile.TemporaryDirectory(prefix="normbench-crash-") as folder:
                self._round(plan, Path(folder))

    def _round(self, plan: list[str], folder: Path) -> None:
        store = Store(folder / "results")
        first_seen: dict[str, str] = {}
        for _ in range(self.random.randint(1, 4)):
            if not plan:
                break
            stages = [plan.pop() for _ in range(min(self.random.choice((1, 1, 2)), len(plan)))]
            if "workers" in stages:
                plan += [stage for stage in stages if stage != "workers"]
                self._kill_command(folder)
                plan += ["workers"] * (stages.count("workers") - 1)
            else:
                plan += self._kill_forked(stages, folder)
            self._look(store, first_seen)
        child = fork(lambda: train(store.root, folder / "diary", None))
        if wait_for({child: ""})[child] != 0:
            self.faults["lost"].append("the last command failed")
        self._look(store, first_seen)
        self._judge(store, folder / "diary")

    def _kill_forked(self, stages: list[str], folder: Path) -> list[str]:
        """Kill a process per stage. Returns the stages whose process had ended before."""
        children = {}
        done = len(Store(folder / "results").finished(self.reference))
        share = (1 - done / len(self.reference)) / len(stages)  # of the operations, that are left per process
        for stage in stages:
            at = self.random.randint(1, max(1, math.floor(share * self.ceilings[stage])))
            trap = Trap(stage, at, before=self.random.random() < 0.5)
            children[fork(lambda trap=trap: train(folder / "results", folder / "diary", trap))] = stage
        again = []
        for pid, code in wait_for(children).items():
            if code == -signal.SIGKILL:
                self.killed[children[pid]] += 1
            elif code == 0:  # another process had done the work before it came to its moment
                self.killed["(ended before)"] += 1
                again.append(children[pid])
            else:
                self.faults["lost"].append(f"a process failed with {code}")
        return again

    def _kill_command(self, folder: Path) -> None:
        """Kill a whole command, its workers, or both, at a random time."""
        words = [*WORDS, "engine.processes=2"]
        environment = os.environ | {"NORMBENCH_RESULTS": str(folder / "results")}
        command = subprocess.Popen(
            [sys.executable, "-m", "normbench", "train", *words],
            env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        until = time.monotonic() + LIMIT_S
        while not list(folder.glob("results/runs/*/*")) and command.poll() is None:
            time.sleep(0.02)
            if time.monotonic() > until:
                break
        time.sleep(self.random.random() * 0.5)
        workers = children_of(command.pid)
        whom = self.random.choice(("command", "worker", "all"))
        if whom == "worker" and workers:
            kill(self.random.choice(workers))
        elif whom == "all":
            with suppress(ProcessLookupError):
                os.killpg(command.pid, signal.SIGKILL)
        else:
            kill(command.pid)
        self.killed["workers"] += 1
        command.wait(LIMIT_S)
        until = time.monotonic() + LIMIT_S
        while any(map(is_worker, workers)):
            if time.monotonic() > until:
                self.faults["orphaned"].append("a worker outlives its command")
                break
            time.sleep(0.05)

    def _look(self, store: Store, first_seen: dict[str, str]) -> None:
        """Read everything as a reader would. Results that were seen must not change."""
        reader = Store(store.root)
        for record in reader.records():
            text = (reader.run_folder(record.signature) / "record.json").read_text()
            if record.ended_well and first_seen.setdefault(record.signature, text) != text:
                self.faults["double"].append(f"the result of {record.signature} was replaced")
            if record.ended_well and reader.history(record.signature)[-1]["step"] != 40:
                self.faults["torn"].append(f"the curve of {record.signature} is cut short")
        for file in store.root.glob("runs/*/*/checkpoint.pt"):
            try:
                torch.load(file, weights_only=True)
            except Exception as error:
                self.faults["torn"].append(f"{file.name}: {error}")
        self.faults["torn"] += reader.damaged

    def _judge(self, store: Store, diary: Path) -> None:
        stacks = self._read_diary(diary)
        for signature, (wanted, weights, curve, stack) in self.reference.items():
            record = store.get(signature)
            if record is None or record.status != "complete":
                self.faults["lost"].append(f"run {signature} has no result")
                continue
            found = load_file(store.weights_file(signature))
            same = (
                record.metrics == wanted.metrics
                and store.history(signature) == curve
                and found.keys() == weights.keys()
                and all(torch.equal(tensor, weights[name]) for name, tensor in found.items())
            )
            whole = stacks.get(signature, {()}) == {stack}
            self.bits["equal bit for bit" if same else "equal within rounding"] += 1
            if whole and not same:
                self.faults["lost"].append(f"run {signature} has other bits in the same stack")
            elif not same and not close(record.metrics["test_loss"], wanted.metrics["test_loss"]):
                self.faults["lost"].append(f"run {signature} has another result")
        expected = {"config.yaml", "history.jsonl", "record.json", "weights.safetensors"}
        for file in store.root.glob("runs/*/*/*"):
            if file.name not in expected:
                self.faults["orphaned"].append(file.name)

    def _read_diary(self, diary: Path) -> dict[str, set[tuple[str, ...]]]:
        """The stacks in which each run trained. Finds runs that two living processes trained at once."""
        stacks: dict[str, set[tuple[str, ...]]] = {}
        spans: dict[str, list[tuple[float, float, int]]] = {}
        open_spans: dict[tuple[int, str], float] = {}
        ends: Counter[str] = Counter()
        lines = [json.loads(line) for line in diary.read_text().splitlines()] if diary.exists() else []
        deaths = {line["pid"]: line["time"] for line in lines if line["what"] == "death"}
        for line in lines:
            for signature in line["runs"]:
                key = line["pid"], signature
                if line["what"] == "start":
                    stacks.setdefault(signature, set()).add(tuple(sorted(line["runs"])))
                    open_spans[key] = line["time"]
                else:
                    ends[signature] += line["what"] == "end"
                    began = open_spans.pop(key, line["time"])
                    spans.setdefault(signature, []).append((began, line["time"], line["pid"]))
        for (pid, signature), began in open_spans.items():
            spans.setdefault(signature, []).append((began, deaths.get(pid, began), pid))
        for signature, found in spans.items():
            ordered = sorted(found)
            for (_, ended, one), (began, _, other) in pairwise(ordered):
                if began < ended and one != other:
                    self.faults["double"].append(f"{signature} was trained by {one} and {other} at once")
        self.faults["double"] += [f"{name} has ended {n} times" for name, n in ends.items() if n > 1]
        return stacks

    def report(self, seconds: float) -> Iterator[str]:
        """The counts, as lines."""
        for stage in (*STAGES, "(ended before)"):
            if self.killed[stage]:
                yield f"  {stage:<15} {self.killed[stage]:>4}"
        kills = sum(count for stage, count in self.killed.items() if stage in STAGES)
        yield f"{kills} kills in {seconds:.0f} s: " + ", ".join(
            f"{len(found)} {name}" for name, found in self.faults.items()
        )
        yield "results " + ", ".join(f"{count} {name}" for name, count in self.bits.items())
        for name, found in self.faults.items():
            yield from (f"{name}: {text}" for text in found[:10])


FAULTS = ("lost", "torn", "double", "orphaned")


def close(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and math.isclose(one, other, rel_tol=ROUNDING)


def resolved() -> list[Resolved]:
    """The runs of the sweep."""
    return resolve_sweep(compose([*WORDS, HERE])).runs


def train(root: Path, diary: Path, trap: Trap | None) -> None:
    """Train the sweep in this process, up to the trap."""
    checkpointer.CHECKPOINT_EVERY_S = waiting.POLL_S = 0.02
    observer = Diary(diary)
    if trap is not None:
        trap.diary = observer
        trap.arm()
    Sweep(RUNS, Store(root)).train([observer])


def fork(work: Callable[[], None]) -> int:
    """Do the work in a forked process; its number."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        work()
        code = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def wait_for(children: dict[int, str]) -> dict[int, int]:
    """Exit codes of processes, negative for signals."""
    codes: dict[int, int] = {}
    until = time.monotonic() + LIMIT_S
    while len(codes) < len(children):
        for pid in children.keys() - codes.keys():
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                codes[pid] = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > until:
                os.kill(pid, signal.SIGKILL)
                raise SystemExit(f"a process of stage {children[pid]} hangs")
        time.sleep(0.005)
    return codes


def children_of(pid: int) -> list[int]:
    """The worker processes of a command."""
    with suppress(OSError):
        listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(child) for child in listed if is_worker(int(child))]
    return []


def is_worker(pid: int) -> bool:
    with suppress(OSError):
        return b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def measure(folder: Path) -> tuple[dict[str, Any], dict[str, int]]:
    """The results of a sweep that is not killed, and the number of operations per stage."""
    trap, counts = Trap("", 0, before=True), folder / "counts"

    def work() -> None:
        train(folder / "results", folder / "diary", trap)
        counts.write_text(json.dumps(trap.counts))

    child = fork(work)
    if wait_for({child: "reference"})[child]:
        raise SystemExit("the sweep fails without kills")
    store, reference = Store(folder / "results"), {}
    stacks = {}
    for line in map(json.loads, (folder / "diary").read_text().splitlines()):
        if line["what"] == "start":
            stacks |= dict.fromkeys(line["runs"], tuple(sorted(line["runs"])))
    for record in store.records():
        weights = load_file(store.weights_file(record.signature))
        curve = store.history(record.signature)
        reference[record.signature] = record, weights, curve, stacks[record.signature]
    return reference, json.loads(counts.read_text())


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kills", type=int, nargs="?", default=200)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    began = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="normbench-crash-"))
    try:
        reference, ceilings = measure(folder)
    finally:
        shutil.rmtree(folder)
    suite = Suite(args.kills, random.Random(args.seed), reference, ceilings)
    suite.run()
    print("\n".join(suite.report(time.monotonic() - began)))
    return int(any(suite.faults.values()))


RUNS: list[Resolved] = []

if __name__ == "__main__":
    RUNS = resolved()
    sys.exit(main())
