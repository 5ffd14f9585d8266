"""Builders of events, and a fake wandb."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from normbench import events
from normbench.record import Record
from normbench.spec import TrackingSpec
from normbench.tracking import wandb_child, wandb_process, wandb_runs, wandb_server
from wandb_loopback import Server, serving


def spec(seed: int, **changes: Any) -> dict[str, Any]:
    return {
        "model": {"name": "lenet5", "hidden": None, "dropout": 0.0},
        "norm": {"name": "bn", "momentum": 0.1},
        "weight": {"name": "none", "eps": None},
        "batch": 2,
        "workers": 1,
        "epochs": None,
        "seed": seed,
        "tracking": {"name": "wandb"},
    } | changes


def started(
    signatures: tuple[str, ...] = ("a", "b"), steps: int = 100, first_step: int = 0, **changes: Any
) -> events.StackStarted:
    """A stack of one configuration, over seeds."""
    specs = tuple(spec(seed, **changes) for seed in range(len(signatures)))
    return events.StackStarted(signatures, specs, ("group",) * len(signatures), steps, first_step)


def mixed(*choices: dict[str, Any], seeds: int = 1, steps: int = 100) -> events.StackStarted:
    """A stack of several configurations with some seeds each; its runs are named "0-0", "0-1", "1-0", …"""
    specs = tuple(spec(seed, **changes) for changes in choices for seed in range(seeds))
    names = tuple(f"{n}-{seed}" for n in range(len(choices)) for seed in range(seeds))
    groups = tuple(json.dumps(changes) for changes in choices for _ in range(seeds))
    return events.StackStarted(names, specs, groups, steps, 0)


def logged(
    signatures: tuple[str, ...] = ("a", "b"), step: int = 10, **numbers: float | None
) -> events.StackLogged:
    point = {"step": step, "images_seen": 2 * step, "epoch": step / 100, "train_loss": 0.5} | numbers
    return events.StackLogged(signatures, step, (point,) * len(signatures))


def ended(
    signature: str, status: str = "complete", rows: tuple[Any, ...] = (), **metrics: float | None
) -> events.RunEnded:
    timing = {"train_s": 1.5}
    return events.RunEnded(
        Record(signature, {}, status, metrics, timing, {}, {}, history=({"step": 1.0},), diagnostics=rows)
    )


@pytest.fixture
def make() -> SimpleNamespace:
    """Builders of events for runs named "a", "b", …"""
    return SimpleNamespace(spec=spec, started=started, mixed=mixed, logged=logged, ended=ended)


@pytest.fixture
def tracking() -> TrackingSpec:
    return TrackingSpec(name="wandb", project="p", entity=None, mode="auto", tags=("t",))


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


class FakeRun:
    """Keeps its arguments and points. A method raises or calls `fake.fail[<method>]` if it is set."""

    def __init__(self, fake: FakeWandb, arguments: dict[str, Any]) -> None:
        self._fake, self.arguments = fake, arguments
        self.starting_step = fake.starting_step
        self.points: list[dict[str, Any]] = []
        self.summary: dict[str, Any] = {}
        self.axes: dict[str, str | None] = {}
        self.exit_code: int | None = None

    def define_metric(self, name: str, step_metric: str | None = None) -> None:
        self.axes[name] = step_metric

    def log(self, point: dict[str, Any], step: int | None = None, commit: bool | None = None) -> None:
        assert (step is None) == (commit is None), "with a step, wandb holds a point back until the next"
        self._fake.trip("log")
        self.points.append(point)

    def finish(self, exit_code: int) -> None:
        self._fake.trip("finish")
        self.exit_code = exit_code


class FakeSettings:
    model_fields = ("silent", "init_timeout", "base_url", "api_key")
    sweep_id: str | None = None
    resume: str | None = None

    def __init__(self, **given: Any) -> None:
        assert set(given) <= set(self.model_fields), "the installed wandb would refuse this setting"
        self.base_url, self.api_key = "https://api.wandb.ai", None
        self.__dict__.update(given)


class FakeWandb(ModuleType):
    """The part of wandb that is used. A test can make a call raise or hang."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.runs: list[FakeRun] = []
        self.teardowns = self.starting_step = 0
        self.fail: dict[str, Any] = {}
        self.Settings = FakeSettings
        self.Image = lambda picture: ("image", picture.size)

    @staticmethod
    def Histogram(np_histogram: tuple[list[float], list[float]]) -> tuple[str, list[float], list[float]]:
        counts, edges = np_histogram
        assert len(edges) == len(counts) + 1
        return "histogram", counts, edges

    def trip(self, method: str) -> None:
        trouble = self.fail.get(method)
        if isinstance(trouble, Exception):
            raise trouble
        if trouble is not None:
            trouble()

    def setup(self, settings: FakeSettings) -> SimpleNamespace:
        settings.sweep_id, settings.resume = os.environ.get("WANDB_SWEEP_ID"), os.environ.get("WANDB_RESUME")
        self.settings = settings
        return SimpleNamespace(settings=settings)

    def init(self, **arguments: Any) -> FakeRun:
        self.trip("init")
        self.trip(f"init {arguments['mode']}")
        self.runs.append(FakeRun(self, arguments))
        return self.runs[-1]

    def Table(self, columns: list[str], data: list[list[Any]]) -> tuple[list[str], list[list[Any]]]:
        return columns, data

    def teardown(self) -> None:
        self.teardowns += 1
        self.trip("teardown")

    def by_id(self, signature: str) -> list[FakeRun]:
        return [run for run in self.runs if run.arguments["id"] == signature]


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch, no_credentials: None) -> str:
    """The environment that `wandb agent` gives to the command of a trial; the id of its run."""
    for name, value in (("SWEEP_ID", "s1"), ("RUN_ID", "trial"), ("PROJECT", "theirs"), ("ENTITY", "team")):
        monkeypatch.setenv(f"WANDB_{name}", value)
    return "trial"


class HereProcess:
    """Stands for `WandbProcess`: the object lives in the process of the test, where wandb may be a fake."""

    def __init__(self, make: Any, root: Any, notice: Any) -> None:
        self._target = make(notice)

    def call(self, method: str, *arguments: Any, limit_s: float | None = None) -> Any:
        try:
            return getattr(self._target, method)(*arguments)
        except Exception as error:
            raise wandb_child.portable(error) from None

    def end(self) -> None:
        """Does nothing: there is no process."""

    kill = end


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    """wandb is called in the process of the test."""
    for module in (wandb_runs, wandb_process):
        monkeypatch.setattr(module, "WandbProcess", HereProcess)
    monkeypatch.setattr(wandb_server, "WAITS_S", (0.0,))  # the server of the tests counts at once


@pytest.fixture
def distant_server(no_credentials: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server on this machine, with a key for it in the environment. wandb has a process of its own."""
    with serving(monkeypatch) as server:
        yield server


@pytest.fixture
def server(distant_server: Server, here: None) -> Server:
    """The same, and wandb is called in the process of the test."""
    return distant_server


@pytest.fixture
def real(no_credentials: None, here: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The real wandb, offline, without a network."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")  # nobody answers there
    yield
    end_wandb()
    os.environ.pop("WANDB_SERVICE", None)


def end_wandb() -> None:
    """End wandb's own process, as at the end of ours. It writes its buffers first."""
    import wandb

    wandb.teardown()


def stored(root: Any) -> dict[str, bytes]:
    """What wandb has written below a results folder: run id → the bytes of its log."""
    end_wandb()
    logs = root.glob("wandb/offline-run-*/*.wandb")
    return {log.stem.removeprefix("run-"): log.read_bytes() for log in logs}


@pytest.fixture
def written() -> Any:
    """Reads what wandb has written below a results folder: run id → the bytes of its log."""
    return stored


@pytest.fixture
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """No variables of wandb in the environment and no netrc file."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, no_credentials: None, here: None) -> Iterator[FakeWandb]:
    """A fake wandb instead of the real one, without an API key."""
    wandb = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    yield wandb
