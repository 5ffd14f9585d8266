"""The launcher passes on a whole sweep at once, and runs other Hydra programs job by job."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import CompactHydraException
from hydra.experimental.callback import Callback
from hydra.test_utils.launcher_common_tests import BatchedSweeperTestSuite, LauncherTestSuite
from omegaconf import DictConfig

from normbench.commands.hydra_app import call_hydra, parse_flags
from normbench.commands.training import Training
from normbench.errors import InputError, RunFailure
from normbench.store import Store

CHDIR = "hydra.job.chdir=true"  # what the suites expect, said so that Hydra does not warn of the change
SWEEPERS = ("basic", "normbench")


@pytest.mark.parametrize(
    ("launcher_name", "overrides"), [("normbench", [CHDIR, f"hydra/sweeper={name}"]) for name in SWEEPERS]
)
class TestLauncherContract(LauncherTestSuite):
    """Hydra's own suite, with Hydra's sweeper and with ours."""


@pytest.mark.parametrize(
    ("launcher_name", "overrides"),
    [("normbench", [CHDIR, f"hydra/sweeper={name}", "hydra.sweeper.max_batch_size=2"]) for name in SWEEPERS],
)
class TestBatchedSweeperContract(BatchedSweeperTestSuite):
    """Hydra's own suite for sweepers that launch in batches."""


class Many:
    """A task that takes all jobs at once and fails those of batch 4."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []

    def __call__(self, config: DictConfig) -> object:
        raise AssertionError("jobs come all at once")

    def many(self, configs: Sequence[Mapping[str, Any]]) -> list[object]:
        self.calls.append([config["batch"] for config in configs])
        return [RunFailure("it broke") if c["batch"] == 4 else {"batch": c["batch"]} for c in configs]


class Witness(Callback):
    """A Hydra callback that keeps what it is told."""

    started: ClassVar[list[tuple[int, str]]] = []
    ended: ClassVar[list[JobReturn]] = []

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        self.started.append((config.hydra.job.num, HydraConfig.get().job.id))

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        self.ended.append(job_return)


@pytest.fixture
def witness(monkeypatch: pytest.MonkeyPatch) -> type[Witness]:
    """The callback, in a plugin that stands for an installed one: a configuration can name no other class."""
    Witness.started, Witness.ended = [], []
    plugin = ModuleType("hydra_plugins.witness")
    plugin.__spec__ = ModuleSpec(plugin.__name__, None)
    monkeypatch.setattr(Witness, "__module__", plugin.__name__)
    plugin.Witness = Witness  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, plugin.__name__, plugin)
    return Witness


def launch(task: Many, *words: str) -> None:
    call_hydra(parse_flags(["+hydra.callbacks.witness._target_=hydra_plugins.witness.Witness", *words]), task)


def test_a_sweep_is_passed_on_as_a_whole_and_in_order() -> None:
    task = Many()
    call_hydra(parse_flags(["batch=2,8,3"]), task)
    assert task.calls == [[2, 8, 3]]


def test_a_batch_size_of_the_sweeper_splits_the_sweep() -> None:
    task = Many()
    call_hydra(parse_flags(["batch=2,8,3", "hydra.sweeper.max_batch_size=2"]), task)
    assert task.calls == [[2, 8], [3]]


def test_job_returns_carry_results_and_failures_in_order(
    witness: type[Witness], monkeypatch: pytest.MonkeyPatch
) -> None:
    task = Many()
    with pytest.raises(RunFailure, match=r"batch=4 seed=0: it broke"):
        launch(task, "batch=2,4,8", "seed=0")
    assert [ret.status for ret in witness.ended] == [
        JobStatus.COMPLETED,
        JobStatus.FAILED,
        JobStatus.COMPLETED,
    ]
    assert [ret.overrides for ret in witness.ended][1] == ["batch=4", "seed=0"]
    assert [ret.cfg.batch for ret in witness.ended] == [2, 4, 8]
    assert [ret.hydra_cfg.hydra.job.num for ret in witness.ended] == [0, 1, 2]
    assert witness.ended[0].return_value == {"batch": 2}
    with pytest.raises(CompactHydraException, match="it broke"):
        _ = witness.ended[1].return_value


def test_callbacks_get_every_job_with_its_own_configuration(witness: type[Witness]) -> None:
    launch(Many(), "batch=2,8")
    assert witness.started == [(0, "0"), (1, "1")]
    assert len(witness.ended) == 2


def test_a_failed_job_keeps_only_its_words_alive(witness: type[Witness]) -> None:
    class Tensor:
        """Stands for what a traceback would hold."""

    class Heavy(Many):
        def many(self, configs: Sequence[Mapping[str, Any]]) -> list[object]:
            held = Tensor()
            self.held = weakref.ref(held)
            try:
                raise RuntimeError("out of memory")
            except RuntimeError as error:
                return [error]

    task = Heavy()
    with pytest.raises(RunFailure, match="out of memory"):
        launch(task, "batch=2")
    gc.collect()
    assert task.held() is None


def test_a_job_that_does_not_compose_stops_the_sweep_before_any_starts() -> None:
    task = Many()
    with pytest.raises(InputError, match="unknown norm 'bm'"):
        call_hydra(parse_flags(["norm=bn,bm"]), task)
    assert task.calls == []


def test_a_sweep_leaves_no_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    call_hydra(parse_flags(["batch=2,8"]), Many())
    assert list(tmp_path.iterdir()) == []


def test_environment_set_for_jobs_holds_while_they_run(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    class Looking(Many):
        def many(self, configs: Sequence[Mapping[str, Any]]) -> list[object]:
            self.seen = os.environ.get("NORMBENCH_TEST")
            return [None] * len(configs)

    task = Looking()
    call_hydra(parse_flags(["+hydra.job.env_set.NORMBENCH_TEST=set"]), task)
    assert task.seen == "set"
    assert "NORMBENCH_TEST" not in os.environ


def test_another_launcher_runs_the_task_job_by_job() -> None:
    seen: list[int] = []

    class Both(Many):
        def __call__(self, config: DictConfig) -> None:
            seen.append(config.batch)

    call_hydra(parse_flags(["batch=2,8", "hydra/launcher=basic"]), Both())
    assert seen == [2, 8]


@pytest.mark.slow
def test_another_launcher_trains_each_run_alone_and_says_so_once(tmp_path: Path) -> None:
    pytest.importorskip(
        "hydra_plugins.hydra_joblib_launcher", reason="hydra-joblib-launcher is not installed"
    )
    words = [
        "model=mlp",
        "steps=2",
        "seed=0,1",
        "tracking=none",
        "hydra/launcher=joblib",
        "hydra.launcher.n_jobs=2",
    ]
    for trained in (2, 0):
        done = subprocess.run(
            [sys.executable, "-m", "normbench", "train", *words], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr.count("hydra/launcher=joblib: each run trains alone, in a job of its own") == 1
        assert (done.stdout + done.stderr).count("1 to train in 1 stack") == trained
    records = list(Store.default().records())
    assert [record.provenance["stack_size"] for record in records] == [1, 1]


def test_a_launcher_of_others_is_named_and_the_basic_one_works(trainer: Any, capsys: Any) -> None:
    call_hydra(
        parse_flags(["model=mlp", "seed=0,1", "hydra/launcher=basic", "tracking=none"]),
        Training(console=False),
    )
    assert len(trainer.trained) == 2
    said = capsys.readouterr().err
    assert said.count("hydra/launcher=basic: each run trains alone") == 1
