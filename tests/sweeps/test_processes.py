"""Whole commands as processes: several at one sweep, stopped ones, and workers without a parent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from normbench import leases
from normbench.leases import Lease
from normbench.processes import Process
from normbench.store import Store

pytestmark = pytest.mark.slow
#: Long enough that several commands meet.
SWEEP = [
    "model=mlp", "model.hidden=[16]", "data=synthetic", "data.train_size=64", "data.test_size=16",
    "data.size=8", "batch=8", "norm=bn,gn", "seed=range(4)", "tracking=none", "engine.device=cpu",
    "engine.lanes=2",
]  # fmt: skip
STEPS = 1500


@pytest.fixture
def start():
    """Starts `normbench train` on the sweep; what still runs at the end is killed."""
    running = []

    def begin(*words):
        command = [sys.executable, "-m", "normbench", "train", *SWEEP, f"steps={STEPS}", *words]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        running.append(process)
        return process

    yield begin
    for process in running:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def until(condition, seconds=120.0):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def training():
    """Leases of stacks that take steps."""
    found = [leases.read(file) for file in Store.default().root.glob("runs/*/*/lease.json")]
    return [seen.lease for seen in found if seen is not None and seen.lease is not None and seen.lease.steps]


def is_alive(pid):
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("commands", [2, 4])
def test_commands_at_one_sweep_train_each_run_once_and_print_the_same_table(commands, start):
    processes = [start("engine.processes=1") for _ in range(commands)]
    said = [process.communicate(timeout=300)[0] for process in processes]
    assert [process.returncode for process in processes] == [0] * commands, said
    counted = Counter()
    for text in said:
        [line] = [line for line in text.splitlines() if line.startswith("8 runs: ") and " trained, " in line]
        counted["here"] += int(line.split()[2])
    assert counted["here"] == 8
    records = Store.default().records()
    assert len(records) == 8
    about = [record.provenance for record in records]
    assert sum(each["steps"] - each["resumed_from"] for each in about) == 8 * STEPS
    tables = {
        subprocess.run(
            [sys.executable, "-m", "normbench", "table", *SWEEP, f"steps={STEPS}", "--format", "json"],
            capture_output=True, text=True, check=True,
        ).stdout
        for _ in range(2)
    }  # fmt: skip
    assert len(tables) == 1
    assert {cell["n"] for cell in json.loads(tables.pop())["cells"]} == {4}


def test_a_stopped_process_whose_runs_were_taken_over_writes_nothing_when_it_continues(start):
    process = start("engine.processes=1", "norm=bn", "seed=0,1")
    held = until(training)
    os.kill(process.pid, signal.SIGSTOP)
    store = Store.default()
    folders = list(store.root.glob("runs/*/*/"))
    thief = Lease(holder=Process("another", "00000000", 1, "1"))
    for folder in folders:
        (folder / "lease.json").unlink()
        assert leases.take(folder / "lease.json", thief)
    os.kill(process.pid, signal.SIGCONT)
    time.sleep(5.0)  # it has lost its leases, and finds out before it writes
    assert process.poll() is None  # it waits for the other process
    for folder in folders:
        assert sorted(file.name for file in folder.iterdir()) == ["lease.json"]
        leases.release(folder / "lease.json", thief.token)
    assert process.wait(timeout=120) == 0  # nobody trains them now, so it does
    assert len(store.records()) == len(folders) == len(held)


@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 143), ("SIGINT", 130), ("SIGHUP", 129)])
def test_workers_write_checkpoints_and_the_command_says_how_to_go_on(number, code, start):
    process = start("engine.processes=2", "steps=1000000")
    until(lambda: len(training()) == 4)
    workers = children(process.pid)
    os.killpg(process.pid, getattr(signal, number))
    said, _ = process.communicate(timeout=60)
    assert process.returncode == code
    assert "error: interrupted; 4 runs go on from step" in said
    assert "Traceback" not in said
    until(lambda: not any(map(is_alive, workers)), seconds=30)
    root = Store.default().root
    assert len(list(root.glob("runs/*/*/checkpoint.pt"))) == 4
    assert list(root.glob("runs/*/*/lease.json")) == []
    assert list(root.glob("runs/*/*/record.json")) == []


def test_workers_do_not_outlive_a_killed_parent_and_leave_checkpoints_but_no_failed_runs(start):
    process = start("engine.processes=2", "steps=1000000")
    until(lambda: len(training()) == 4)
    workers = children(process.pid)
    process.kill()
    until(lambda: not any(map(is_alive, workers)), seconds=60)
    root = Store.default().root
    assert len(list(root.glob("runs/*/*/checkpoint.pt"))) == 4
    assert list(root.glob("runs/*/*/record.json")) == []
    assert list(root.glob("runs/*/*/lease.json")) == []


def test_a_worker_that_is_killed_before_its_first_job_does_not_end_the_sweep(start):
    process = start("engine.processes=2", "steps=20")
    found = until(lambda: [pid for pid in children(process.pid) if b"spawn_main" in cmdline(pid)])
    os.kill(found[0], signal.SIGKILL)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert {record.status for record in Store.default().records()} == {"complete"}


def cmdline(pid):
    return Path(f"/proc/{pid}/cmdline").read_bytes()
