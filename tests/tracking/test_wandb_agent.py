"""Under a wandb agent, the agent's run gets the results of this command."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from normbench.events import Event, RunEvaluated, RunFound, SweepStarted
from normbench.spec import TrackingSpec
from normbench.tracking.wandb_runs import WandbRuns
from normbench.tracking.wandb_setup import agent_run


class Command:
    """One command that tracks, and what it said."""

    def __init__(self, tracking: TrackingSpec, root: Path) -> None:
        self.said: list[str] = []
        self._observer = WandbRuns(tracking, root, self.said.append)

    def __call__(self, *events: Event) -> None:
        for event in events:
            self._observer.notify(event)
        self._observer.close()


@pytest.fixture
def command(agent: str, here: None, tracking: TrackingSpec, tmp_path: Path) -> Command:
    return Command(tracking, tmp_path)


def found(make: SimpleNamespace, signature: str, seed: int = 0, **metrics: float | None) -> RunFound:
    record = make.ended(signature, **metrics).record
    history = tuple({"step": step, "images_seen": 2 * step, "train_loss": 1 / step} for step in (10, 20))
    return RunFound(replace(record, spec=make.spec(seed), history=history))


def sweep(runs: int, *varying: str) -> SweepStarted:
    return SweepStarted(runs, 0, 1, 100, varying=varying)


def test_the_one_run_of_a_command_is_the_agents_run(
    command: Command, make: SimpleNamespace, fake: SimpleNamespace
) -> None:
    command(sweep(1), make.started(("a",)), make.logged(("a",), step=10), make.ended("a", test_error=0.1))
    (run,) = fake.runs
    assert not {"id", "project", "entity"} & run.arguments.keys()  # wandb takes them from the environment
    assert run.arguments["name"] == "bn b2 lenet5 s0"
    assert run.arguments["config"]["seed"] == 0
    assert [point["step"] for point in run.points] == [10]
    assert run.summary == {"status": "complete", "test_error": 0.1, "train_s": 1.5}
    assert run.exit_code == 0
    assert not any("agent" in text for text in command.said)


@pytest.mark.parametrize("told", [True, False])
def test_a_run_that_was_finished_before_gives_the_agent_its_metrics_and_its_curve(
    told: bool, command: Command, make: SimpleNamespace, fake: SimpleNamespace
) -> None:
    command(*([sweep(1)] if told else []), found(make, "a", test_error=0.1))
    (run,) = fake.runs
    assert [point["train_loss"] for point in run.points] == [0.1, 0.05]
    assert (run.summary["test_error"], run.exit_code) == (0.1, 0)


def test_a_metric_that_was_added_without_training_reaches_the_agent(
    command: Command, make: SimpleNamespace, fake: SimpleNamespace
) -> None:
    before = found(make, "a", test_error=0.1)
    record = replace(before.record, metrics={"test_error": 0.1, "test_error@precise": 0.05})
    command(sweep(1), before, RunEvaluated(record, ("test_error@precise",)))
    (run,) = fake.runs
    assert run.summary["test_error_precise"] == 0.05


def test_without_an_agent_finished_runs_are_not_tracked_again(
    tracking: TrackingSpec, tmp_path: Path, make: SimpleNamespace, fake: SimpleNamespace
) -> None:
    record = found(make, "a", test_error=0.1).record
    Command(tracking, tmp_path)(sweep(1), RunFound(record), RunEvaluated(record, ("test_error",)))
    assert fake.runs == []


def test_seeds_are_averaged_into_the_agents_run(
    command: Command, make: SimpleNamespace, fake: SimpleNamespace
) -> None:
    command(
        sweep(3),
        found(make, "c", seed=2, test_error=0.6),
        make.started(("a", "b")),
        make.logged(("a", "b"), step=10, train_loss=0.4),
        make.logged(("a", "b"), step=15),  # the third run has no such point
        make.ended("a", test_error=0.1),
        make.ended("b", test_error=0.2),
    )
    (run,) = fake.runs
    assert [(p["step"], p["train_loss"]) for p in run.points] == [(10, pytest.approx(0.3))]
    assert run.summary["test_error"] == pytest.approx(0.3)
    assert run.arguments["config"]["runs"] == 3
    assert "seed" not in run.arguments["config"]
    assert run.arguments["name"] == "bn b2 lenet5"
    (said,) = [text for text in command.said if "agent" in text]
    assert said.startswith("a wandb agent started this command: its run trial gets the means over 3 seeds;")


def test_seeds_in_several_stacks_are_one_run(
    command: Command, make: SimpleNamespace, fake: SimpleNamespace
) -> None:
    for_seed = [make.started(("a", "b")), make.started(("c",))]
    points = [make.logged(("a", "b"), step=s, train_loss=0.2) for s in (10, 20)]
    command(
        sweep(3),
        for_seed[0], *points, make.ended("a", test_error=0.1), make.ended("b", test_error=0.2),
        for_seed[1], make.logged(("c",), step=10, train_loss=0.8), make.ended("c", test_error=0.6),
    )  # fmt: skip
    (run,) = fake.runs
    assert [(p["step"], p["train_loss"]) for p in run.points] == [(10, pytest.approx(0.4))]
    assert run.summary["test_error"] == pytest.approx(0.3)


def test_a_mean_is_missing_if_one_run_has_no_such_number(
    command: Command, make: SimpleNamespace, fake: SimpleNamespace
) -> None:
    ends = make.ended("a", test_error=0.1, train_loss=1.0), make.ended("b", "diverged", test_error=0.9)
    command(sweep(2), make.started(), *ends)
    assert fake.runs[0].summary == {"status": "diverged", "test_error": 0.5, "train_s": 1.5}


def test_configurations_are_not_averaged_and_the_user_is_told(
    command: Command, make: SimpleNamespace, fake: SimpleNamespace
) -> None:
    stack = make.mixed({"norm": {"name": "bn", "momentum": 0.1}}, {"norm": {"name": "gn", "momentum": None}})
    ends = [make.ended(signature, test_error=0.1) for signature in stack.signatures]
    command(sweep(2, "norm"), stack, make.logged(stack.signatures), *ends)
    (run,) = fake.runs
    assert run.summary == {"status": "complete"}
    assert run.points == []
    assert "norm" not in run.arguments["config"]
    (said,) = [text for text in command.said if "agent" in text]
    assert said.startswith(
        "a wandb agent started this command for one result, but its 2 runs differ in norm:"
    )
    assert "env -u WANDB_SWEEP_ID -u WANDB_RUN_ID normbench train" in said


def test_a_trial_that_was_interrupted_has_no_metric(
    command: Command, make: SimpleNamespace, fake: SimpleNamespace
) -> None:
    command(sweep(2), make.started(), make.ended("a", test_error=0.1))
    (run,) = fake.runs
    assert (run.summary, run.exit_code) == ({}, 1)


def test_a_trial_that_resumes_continues_its_curve(
    command: Command, make: SimpleNamespace, fake: SimpleNamespace
) -> None:
    points = [make.logged(("a",), step=step) for step in (50, 60)]
    command(sweep(1), make.started(("a",), first_step=50), *points, make.ended("a"))
    (run,) = fake.runs
    assert run.arguments["resume"] == "allow"
    assert [point["step"] for point in run.points] == [60]


def test_a_failed_run_fails_the_trial(command: Command, make: SimpleNamespace, fake: SimpleNamespace) -> None:
    command(sweep(1), make.started(("a",)), make.ended("a", "failed"))
    assert fake.runs[0].exit_code == 1


def test_when_wandb_dies_online_the_trial_goes_on_offline(
    command: Command, make: SimpleNamespace, fake: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)

    def die_once() -> None:
        fake.fail.clear()
        raise ConnectionResetError("gone")

    fake.fail["log"] = die_once
    command(sweep(1), make.started(("a",)), make.logged(("a",)), make.ended("a", test_error=0.1))
    assert [run.arguments["mode"] for run in fake.runs] == ["online", "offline"]
    assert fake.runs[1].summary["test_error"] == 0.1


@pytest.mark.parametrize(
    ("environment", "run"),
    [
        ({}, None),
        ({"WANDB_RUN_ID": "mine"}, None),
        ({"WANDB_SWEEP_ID": "s"}, None),
        ({"WANDB_SWEEP_ID": "s", "WANDB_RUN_ID": "r"}, "r"),
        ({"WANDB_LAUNCH": "True", "WANDB_RUN_ID": "r"}, "r"),
        ({"WANDB_LAUNCH": "false", "WANDB_RUN_ID": "r"}, None),
    ],
)
def test_an_agent_or_launch_names_a_run(
    environment: dict[str, str], run: str | None, no_credentials: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert agent_run() == run


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # wandb leaves a file open
def test_with_the_real_wandb_the_agents_run_holds_the_metric(
    agent: str, real: None, tracking: TrackingSpec, tmp_path: Path, make: SimpleNamespace, written: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    parameters = tmp_path / "config-trial.yaml"
    parameters.write_text("wandb_version: 1\noptim.lr:\n  value: 0.0625\nnorm:\n  value: bn\n")
    monkeypatch.setenv("WANDB_SWEEP_PARAM_PATH", str(parameters))
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "elsewhere"))
    command = Command(tracking, tmp_path)
    command(sweep(1), make.started(("a",)), make.logged(("a",)), make.ended("a", test_error=0.125))
    assert command.said == []
    ((run, log),) = written(tmp_path).items()
    assert run == agent
    for text in ("theirs", "team", "s1", "optim.lr", "0.0625", "test_error", "0.125", "complete"):
        assert text.encode() in log


def test_with_the_real_wandb_a_finished_run_is_logged_from_its_record(
    agent: str, real: None, tracking: TrackingSpec, tmp_path: Path, make: SimpleNamespace, written: Any
) -> None:
    command = Command(tracking, tmp_path)
    command(found(make, "a", test_error=0.125))
    assert command.said == []
    ((run, log),) = written(tmp_path).items()
    assert run == agent
    assert all(text in log for text in (b"test_error", b"0.125", b"train_loss", b"0.05"))


@pytest.mark.parametrize(
    "environment",
    [
        {"WANDB_SWEEP_ID": "stale"},
        {"WANDB_RESUME": "must"},
        {"WANDB_RESUME": "never"},
        {"WANDB_RESUME": "auto"},
        {"WANDB_RUN_ID": "stale"},
        {"WANDB_NAME": "mine", "WANDB_RUN_GROUP": "g", "WANDB_TAGS": "x,y", "WANDB_JOB_TYPE": "j"},
        {"WANDB_DIR": "elsewhere"},
    ],
    ids=lambda environment: "+".join(environment),
)
def test_with_the_real_wandb_other_variables_do_not_stop_the_tracking_of_a_sweep(
    environment: dict[str, str], real: None, tracking: TrackingSpec, tmp_path: Path, make: SimpleNamespace,
    written: Any, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    command = Command(tracking, tmp_path)
    command(sweep(2), make.started(("aa", "bb")), *(make.ended(s, test_error=0.125) for s in ("aa", "bb")))
    assert command.said == []
    logs = written(tmp_path)
    assert logs.keys() == {"aa", "bb"}
    assert all(b"0.125" in log and b"stale" not in log for log in logs.values())
