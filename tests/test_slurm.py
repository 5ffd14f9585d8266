"""A real Slurm of one node: jobs of a sweep, one of them preempted and requeued. It needs root."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from normbench.store import Store

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[1] / "scripts" / "one_node_slurm.sh"
#: Seconds for a job to begin, for a loaded machine.
PATIENCE_S = 600
#: A run of a few seconds, in stacks of one.
WORDS = ["model=mlp", "steps=6000", "engine.lanes=1", "tracking=none", "eval.every=100"]
JOBS = ["executor=slurm", "executor.gpus=0", "executor.partition=low"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """The folder of a running cluster. Commands find it by SLURM_CONF."""
    pytest.importorskip("submitit", reason="submitit is not installed: pip install 'normbench[slurm]'")
    folder = Path(os.environ.get("NORMBENCH_SLURM", "")) if "NORMBENCH_SLURM" in os.environ else None
    own = folder is None
    folder = folder or tmp_path_factory.mktemp("slurm")
    if own:
        started = subprocess.run([SCRIPT, "start", folder], capture_output=True, text=True, check=False)
        if started.returncode == 3:
            subprocess.run([SCRIPT, "stop", folder], check=False)
            pytest.skip(started.stderr.strip())
        assert started.returncode == 0, started.stderr
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_CONF", str(folder / "slurm.conf"))
        yield folder
    if own:
        subprocess.run([SCRIPT, "stop", folder], check=True)


def slurm(*words: str) -> str:
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


class Command:
    """`normbench train` in a process of its own."""

    def __init__(self, *words: str) -> None:
        self.store = Store.default()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "normbench", "train", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def events(self, number: int) -> str:
        """The lines of a job, if it has some."""
        files = sorted((self.store.root / "jobs").glob(f"*/{number}.jsonl"))
        return files[0].read_text() if files else ""

    def job(self) -> str:
        """The number of the array job."""
        [file] = (self.store.root / "jobs").glob("*/submission.json")
        return re.search(r'"job": "(\d+)"', file.read_text())[1]

    def until(self, what) -> None:
        """Wait until something holds."""
        end = time.monotonic() + PATIENCE_S
        while not what():
            assert self.process.poll() is None, self.process.stdout.read()
            assert time.monotonic() < end, "nothing happens"
            time.sleep(0.2)

    def ended(self) -> str:
        """Wait for the end; return the output."""
        output, _ = self.process.communicate(timeout=2 * PATIENCE_S)
        assert self.process.returncode == 0, output
        return output


def test_a_preempted_job_of_four_is_requeued_and_goes_on_with_the_same_bits(cluster, tmp_path, monkeypatch):
    command = Command(*WORDS, "seed=range(4)", *JOBS)
    command.until(lambda: "StackLogged" in command.events(0))
    job = command.job()
    # its exit code tells of the batch script, which does not get the signal
    subprocess.run(["scancel", "--signal=USR2", f"{job}_0"], capture_output=True, check=False)
    command.until(lambda: command.events(0).count('"Began"') == 2)
    assert "Restarts=1" in slurm("scontrol", "show", "job", f"{job}_0")
    assert "4 trained" in command.ended()
    records = {record.spec["seed"]: record for record in command.store.records()}
    assert sorted(records) == [0, 1, 2, 3]
    resumed = {record.provenance["resumed_from"] for record in records.values()}
    assert len(resumed) == 2 and 0 in resumed, "one of four went on from its checkpoint"
    [again] = [record for record in records.values() if record.provenance["resumed_from"]]
    assert {record.provenance["executor"] for record in records.values()} == {"slurm"}
    assert again.provenance["job"] == f"{job}_0"
    assert not (command.store.root / "jobs").exists()
    monkeypatch.setenv("NORMBENCH_RESULTS", str(tmp_path / "local"))
    here = Command(*WORDS, f"seed={again.spec['seed']}")
    here.ended()
    [whole] = here.store.records()
    assert again.metrics == whole.metrics
    states = [load_file(store.weights_file(again.signature)) for store in (command.store, here.store)]
    assert states[0].keys() == states[1].keys()
    assert all(np.array_equal(states[0][name], states[1][name]) for name in states[0])


def test_a_command_that_was_killed_finds_its_jobs_again(cluster):
    first = Command(*WORDS, "seed=range(10,13)", *JOBS)
    first.until(lambda: "StackLogged" in first.events(0))
    first.process.kill()
    first.process.communicate()
    job = first.job()
    second = Command(*WORDS, "seed=range(10,13)", *JOBS)
    output = second.ended()
    assert "in jobs that an earlier command has submitted" in output
    assert {record.provenance["job"].partition("_")[0] for record in second.store.records()} == {job}
    assert len(list(second.store.records())) == 3


@pytest.mark.skipif(
    "NORMBENCH_SLURM" not in os.environ,
    reason="Slurm does not preempt here if pytest has started it, for unknown reasons; see make test-slurm",
)
def test_jobs_that_a_more_urgent_one_preempts_go_on_by_themselves(cluster):
    # preemption may take a minute, so the run must last longer
    words = [word.replace("steps=6000", "steps=20000") for word in WORDS]
    command = Command(*words, "seed=20", *JOBS, "executor.cpus=1")
    command.until(lambda: "StackLogged" in command.events(0))
    job = command.job()
    everything = f"--ntasks={os.cpu_count() or 1}"
    slurm("sbatch", "--partition=high", everything, "--output=/dev/null", "--wrap=sleep 5")
    command.until(lambda: command.events(0).count('"Began"') == 2)
    command.ended()
    [record] = command.store.records()
    assert record.provenance["resumed_from"] > 0
    assert record.provenance["job"] == job, "Slurm gave it its place back; the command submitted no other one"
