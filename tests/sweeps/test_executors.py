"""Which executor a command has, and a pretended machine with eight GPUs."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from normbench import cli
from normbench.config.compose import compose
from normbench.config.sweep import resolve_sweep
from normbench.engine import devices
from normbench.errors import InputError
from normbench.executor_spec import HERE
from normbench.store import Store
from normbench.sweeps import worker_handle
from normbench.sweeps.executors import choice
from normbench.sweeps.executors.local_pool import local_pool
from normbench.sweeps.get_or_train import Sweep

QUICK = ("model=mlp", "steps=2", "tracking=none")


@pytest.fixture
def cluster(monkeypatch):
    """Submitit and the commands of Slurm are there, as far as anybody looks."""
    monkeypatch.setattr(choice, "find_spec", lambda name: object())
    monkeypatch.setattr(choice.shutil, "which", lambda name: f"/usr/bin/{name}")


def test_the_executor_belongs_to_the_command_and_not_to_its_runs():
    plain = resolve_sweep(compose(QUICK))
    asked = resolve_sweep(
        compose([*QUICK, "executor=slurm", "executor.partition=gpu", "executor.timeout=60"])
    )
    assert plain.executor == HERE
    assert (asked.executor.name, asked.executor.partition, asked.executor.timeout) == ("slurm", "gpu", 60)
    assert asked.executor.gpus == 1
    assert [run.spec for run in asked.runs] == [run.spec for run in plain.runs]


def test_the_settings_of_a_cluster_may_be_a_file_of_the_users_own(tmp_path):
    (tmp_path / "executor").mkdir()
    (tmp_path / "executor" / "mine.yaml").write_text("name: slurm\npartition: a100\ngpus: 1\nqos: null\n")
    words = ["executor=mine", "executor.gpus=2"]
    spec = resolve_sweep(compose([*QUICK, *words], str(tmp_path))).executor
    assert (spec.name, spec.partition, spec.gpus, spec.timeout) == ("slurm", "a100", 2, 240)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["executor=slrm"], "unknown executor 'slrm'; nearest: slurm"),
        (["executor=slurm", "executor.partion=x"], "unknown key 'executor.partion'; nearest: executor.part"),
        (["executor=slurm", "executor.timeout=0"], "executor.timeout should be greater than or equal to 2"),
        (["executor=slurm", "executor.partition=a b"], "executor.partition String should match pattern"),
        (["executor=slurm", "executor.max_jobs=few"], "executor.max_jobs should be 'auto'"),
        (["executor=slurm,local"], "executor must be the same for all runs of a command"),
        (["executor.partition=gpu"], "unknown key 'executor.partition'"),
    ],
)  # fmt: skip
def test_executors_that_cannot_be_are_refused_in_one_line(words, message):
    with pytest.raises(InputError, match=message.replace(".", r"\.")):
        resolve_sweep(compose([*QUICK, *words]))


def test_a_machine_without_slurm_or_submitit_says_what_is_missing(monkeypatch, capsys):
    words = ["train", *QUICK, "executor=slurm"]
    monkeypatch.setattr(choice, "find_spec", lambda name: None)
    assert cli.run(words) == 2
    assert (
        "executor=slurm needs submitit; install it: pip install 'normbench[slurm]'" in capsys.readouterr().err
    )
    monkeypatch.setattr(choice, "find_spec", lambda name: object())
    monkeypatch.setattr(choice.shutil, "which", lambda name: None)
    assert cli.run(words) == 2
    assert "needs the commands sbatch and squeue" in capsys.readouterr().err
    assert cli.run([*words, "engine.devices=all"]) == 2
    assert "with executor=slurm, give executor.gpus" in capsys.readouterr().err


def test_a_plan_for_a_cluster_says_how_many_jobs_and_needs_no_gpu_here(cluster, capsys):
    words = ["norm=bn,gn", "seed=range(80)", "executor=slurm", "engine.device=cuda", "engine.precision=tf32"]
    assert cli.run(["plan", *QUICK, *words, "executor.partition=gpu", "executor.max_jobs=2"]) == 0
    said = capsys.readouterr().out
    assert "executor=slurm: 4 jobs, one per stack, at most 2 at a time; partition gpu, 1 GPU each" in said
    assert "about" not in said.partition("executor=")[2].partition("\n")[2].partition("final states")[0]


def test_stacks_elsewhere_are_as_wide_as_their_device_likes(cluster, make_sweep):
    runs = make_sweep("model=lenet5", "seed=range(40)")
    spec = resolve_sweep(compose([*QUICK, "executor=slurm"])).executor
    store = Store.default()
    widths = [len(pack.specs) for pack in Sweep(runs, store, executor=spec).plan.packs]
    assert widths == [40]
    without = spec.model_copy(update={"gpus": 0})
    widths = [len(pack.specs) for pack in Sweep(runs, store, executor=without).plan.packs]
    assert max(widths) == 8
    asked = make_sweep("model=lenet5", "seed=range(40)", "engine.lanes=20")
    assert len(Sweep(asked, store, executor=spec).plan.packs) == 2


def test_a_worker_process_sees_one_gpu_and_its_parent_keeps_its_own(monkeypatch):
    seen = []

    class Process:
        def __init__(self, **given):
            pass

        def start(self):
            seen.append(os.environ.get("CUDA_VISIBLE_DEVICES"))

    class Context:
        def Pipe(self):
            return multiprocessing.Pipe()

        def Process(self, **given):
            return Process()

    monkeypatch.setattr(worker_handle.multiprocessing, "get_context", lambda name: Context())
    for before in (None, "4,5"):
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if before is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before)
        workers = [worker_handle.spawn("5"), worker_handle.spawn()]
        assert os.environ.get("CUDA_VISIBLE_DEVICES") == before
        for worker in workers:
            worker.pipe.close()
    assert seen == ["5", None, "5", "4,5"]


def visible() -> str:
    return os.environ["CUDA_VISIBLE_DEVICES"]


@pytest.mark.slow
def test_eight_workers_of_a_pretended_machine_train_a_stack_each(monkeypatch, make_sweep):
    """The parent believes in eight GPUs. The workers find none and train on the CPU."""
    monkeypatch.setattr(devices, "cuda_count", lambda: 8)
    runs = make_sweep(*QUICK, "seed=range(16)", "engine.devices=all", "engine.lanes=2")
    sweep = Sweep(runs, Store.default())
    assert (sweep.at_once, sweep.gpus) == (8, tuple("01234567"))
    assert sweep.tuning_lines()[0] == "a process on each of 8 GPUs: 0, 1, 2, 3, 4, 5, 6, 7"
    with local_pool(sweep.at_once, sweep.gpus) as pool:
        assert sorted(pool.run_on_all(visible)) == list("01234567")
    records = sweep.train()
    assert [record.status for record in records] == ["complete"] * 16
    assert {record.provenance["stack_size"] for record in records} == {2}


@pytest.mark.slow
def test_jobs_of_this_machine_outlive_ctrl_c_and_are_found_again():
    pytest.importorskip("submitit", reason="submitit is not installed: pip install 'normbench[slurm]'")
    words = ["model=mlp", "steps=30000", "eval.every=100", "tracking=none", "executor=submitit_local"]
    command = [sys.executable, "-m", "normbench", "train", *words]
    store = Store.default()
    first = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    while not any("StackLogged" in file.read_text() for file in (store.root / "jobs").glob("*/*.jsonl")):
        assert first.poll() is None, first.stdout.read()
        time.sleep(0.1)
    os.killpg(first.pid, signal.SIGINT)  # as a terminal does, to all of its processes
    said, _ = first.communicate(timeout=300)
    assert first.returncode == 130
    assert "1 job goes on without this command, and the same command follows again; to end it: kill " in said
    second = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "1 run in jobs that an earlier command has submitted" in second.stdout + second.stderr
    [record] = store.records()
    assert record.provenance["executor"] == "submitit_local"
    assert record.provenance["resumed_from"] == 0, "the job was not disturbed"
