"""The calls to wandb, and what happens if one fails, tried with a fake."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from threading import Barrier
from types import SimpleNamespace

import pytest
from PIL import Image

from normbench.events import Event, RunEvaluated, RunFound, StackSplit, SweepStarted
from normbench.record import Record
from normbench.spec import TrackingSpec
from normbench.store import Store
from normbench.tracking.sweep_summary import SweepSummary
from normbench.tracking.wandb_fields import name
from normbench.tracking.wandb_session import WandbSession

GONE = ConnectionResetError("Connection lost")


def png(width: int, height: int) -> bytes:
    """A black image."""
    out = io.BytesIO()
    Image.new("RGB", (width, height)).save(out, "png")
    return out.getvalue()


class Harness:
    """A session, what it said, and the fake it talks to."""

    def __init__(self, tracking: TrackingSpec, root: Path, fake: SimpleNamespace) -> None:
        self.said: list[str] = []
        self.summarized: list[tuple[list[str], tuple[str, ...]]] = []
        self.undrawn = ""
        self.session = WandbSession(tracking, root, self.said.append, self.summarize)
        self.fake = fake

    def summarize(self, records: list[Record], varying: tuple[str, ...]) -> SweepSummary:
        self.summarized.append(([record.signature for record in records], varying))
        return SweepSummary(("cell", "mean"), (("bn", 0.5),), {"curve": png(3, 2)}, self.undrawn)

    def tell(self, *events: Event) -> None:
        for event in events:
            self.session.handle(event)
        self.session.finish_ended()

    @property
    def states(self) -> list[tuple[str, str]]:
        return [(run.arguments["id"], run.arguments["mode"]) for run in self.fake.runs]


@pytest.fixture
def harness(tracking: TrackingSpec, tmp_path: Path, fake: SimpleNamespace) -> Harness:
    return Harness(tracking, tmp_path / "results", fake)


@pytest.fixture
def online(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> Harness:
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    return harness


def test_a_run_is_opened_for_every_lane_at_once(
    harness: Harness, make: SimpleNamespace, tmp_path: Path
) -> None:
    harness.tell(make.started(("a", "b"), norm={"name": "gn"}, workers=4))
    first, second = harness.fake.runs
    expected = {
        "project": "p",
        "entity": None,
        "id": "a",
        "name": "gn b2x4 lenet5 s0",
        "group": "gn b2x4 lenet5 group",
        "job_type": "gn",
        "tags": ["t"],
        "dir": str(tmp_path / "results"),
        "mode": "offline",
        "reinit": "create_new",
        "resume": None,
    }
    assert expected.items() <= first.arguments.items()
    assert (second.arguments["id"], second.arguments["name"]) == ("b", "gn b2x4 lenet5 s1")
    assert first.exit_code is second.exit_code is None
    assert first.axes == {"epoch": None, "images_seen": None, "*": "images_seen"}
    assert (tmp_path / "results").is_dir()


def test_what_varies_in_the_sweep_stands_in_the_names(harness: Harness, make: SimpleNamespace) -> None:
    momenta = [{"norm": {"name": "bn", "momentum": m}} for m in (0.1, 0.9)]
    harness.tell(SweepStarted(2, 0, 1, 200, varying=("norm.momentum",)), make.mixed(*momenta))
    assert [run.arguments["name"] for run in harness.fake.runs] == [
        "bn b2 lenet5 norm.momentum=0.1 s0",
        "bn b2 lenet5 norm.momentum=0.9 s0",
    ]


def test_a_name_has_at_most_128_characters_and_keeps_its_seed() -> None:
    spec = {"norm": {"name": "x" * 200}, "batch": 2, "workers": 1, "model": {"name": "m"}, "seed": 12}
    assert len(name(spec)) == 128
    assert name(spec).endswith("x s12")


def test_a_group_from_the_environment_is_kept_and_a_name_only_for_a_lone_run(
    harness: Harness, make: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_NAME", "mine")
    monkeypatch.setenv("WANDB_RUN_GROUP", "ours")
    harness.tell(SweepStarted(1, 0, 1, 100), make.started(("a",)), make.ended("a"))
    harness.tell(SweepStarted(2, 0, 1, 200), make.started(("b", "c")))
    arguments = [run.arguments for run in harness.fake.runs]
    assert [a["name"] for a in arguments] == ["mine", "bn b2 lenet5 s0", "bn b2 lenet5 s1"]
    assert {a["group"] for a in arguments} == {"ours"}


def test_without_tags_of_its_own_a_run_gets_those_of_the_environment(
    tracking: TrackingSpec, tmp_path: Path, fake: SimpleNamespace, make: SimpleNamespace
) -> None:
    harness = Harness(tracking.model_copy(update={"tags": ()}), tmp_path, fake)
    harness.tell(make.started(("a",)))
    assert fake.runs[0].arguments["tags"] is None  # wandb reads WANDB_TAGS


def test_the_config_is_nested_without_absent_knobs_and_with_the_total(
    harness: Harness, make: SimpleNamespace
) -> None:
    harness.tell(make.started(("a",), workers=4))
    assert harness.fake.runs[0].arguments["config"] == {
        "model": {"name": "lenet5", "dropout": 0.0},
        "norm": {"name": "bn", "momentum": 0.1},
        "weight": {"name": "none"},
        "batch": 2,
        "workers": 4,
        "seed": 0,
        "total": 8,
        "cell": "bn b2x4 lenet5",
    }


def test_points_reach_their_lane_without_missing_numbers_and_with_plain_names(
    harness: Harness, make: SimpleNamespace
) -> None:
    harness.tell(make.started(), make.logged(step=10, **{"test_error@batch": 0.25, "test_loss": None}))
    point = {"step": 10, "images_seen": 20, "epoch": 0.1, "train_loss": 0.5, "test_error_batch": 0.25}
    assert [run.points for run in harness.fake.runs] == [[point], [point]]


@pytest.mark.parametrize(("status", "exit_code"), [("complete", 0), ("diverged", 0), ("failed", 1)])
def test_an_ended_run_gets_its_results_and_is_finished(
    status: str, exit_code: int, harness: Harness, make: SimpleNamespace
) -> None:
    harness.tell(make.started(), make.ended("a", status, test_error=0.1, test_loss=None))
    first, second = harness.fake.runs
    assert first.summary == {"status": status, "test_error": 0.1, "train_s": 1.5}
    assert (first.exit_code, second.exit_code) == (exit_code, None)
    harness.tell(make.logged(step=20))  # its stack trains on
    assert (len(first.points), len(second.points)) == (0, 1)


def test_a_run_that_was_not_started_is_not_tracked(harness: Harness, make: SimpleNamespace) -> None:
    harness.tell(make.started(("a",)), make.ended("z"))
    assert harness.fake.by_id("z") == []


def test_a_resumed_run_goes_on_under_its_id(harness: Harness, make: SimpleNamespace) -> None:
    harness.tell(
        make.started(("a",), first_step=50), make.logged(("a",), step=50), make.logged(("a",), step=60)
    )
    (run,) = harness.fake.runs
    assert run.arguments["resume"] == "allow"
    assert [point["step"] for point in run.points] == [60]


def test_points_that_the_server_has_later_than_the_checkpoint_are_not_logged_again(
    harness: Harness, make: SimpleNamespace
) -> None:
    harness.fake.starting_step = 71  # the server has steps up to 70
    harness.tell(make.started(("a",), first_step=50))
    harness.tell(*(make.logged(("a",), step=step) for step in (60, 70, 71, 80)))
    assert [point["step"] for point in harness.fake.runs[0].points] == [71, 80]


def test_the_point_at_step_zero_is_logged(harness: Harness, make: SimpleNamespace) -> None:
    harness.tell(make.started(("a",)), make.logged(("a",), step=0))
    assert [point["step"] for point in harness.fake.runs[0].points] == [0]


def test_after_a_split_the_runs_stay_open_and_repeated_points_are_skipped(
    harness: Harness, make: SimpleNamespace
) -> None:
    harness.tell(make.started(), make.logged(step=10), make.logged(step=20))
    harness.tell(StackSplit(("a", "b"), "out of memory"))
    for lane in ("a", "b"):
        harness.tell(make.started((lane,)), *(make.logged((lane,), step=s) for s in (10, 20, 30)))
        harness.tell(make.ended(lane))
    assert [len(harness.fake.by_id(lane)) for lane in ("a", "b")] == [1, 1]
    for run in harness.fake.runs:
        assert [point["step"] for point in run.points] == [10, 20, 30]
        assert run.exit_code == 0


def test_a_run_that_is_trained_again_starts_anew(harness: Harness, make: SimpleNamespace) -> None:
    for event in (make.started(("a",)), make.ended("a", "failed"), make.started(("a",))):
        harness.session.handle(event)
    first, second = harness.fake.by_id("a")
    assert (first.exit_code, second.exit_code) == (1, None)


def test_runs_that_have_not_ended_are_marked_failed_at_close(harness: Harness, make: SimpleNamespace) -> None:
    harness.tell(make.started(), make.ended("a"))
    harness.session.close()
    assert [run.exit_code for run in harness.fake.runs] == [0, 1]


def test_without_a_key_auto_works_offline_and_says_so_once(harness: Harness, make: SimpleNamespace) -> None:
    harness.tell(make.started(), make.logged(), make.started(("c",)), make.logged(("c",)))
    assert harness.states == [("a", "offline"), ("b", "offline"), ("c", "offline")]
    (said,) = harness.said
    assert "no API key" in said
    assert said.endswith("To upload: wandb login, then normbench sync, with the words of this command")


def test_with_a_key_auto_works_online_and_says_nothing(online: Harness, make: SimpleNamespace) -> None:
    online.tell(make.started(), make.logged(), make.ended("a"))
    assert online.states == [("a", "online"), ("b", "online")]
    assert online.said == []


def test_offline_that_was_asked_for_says_nothing(
    online: Harness, make: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    online.tell(make.started())
    assert online.states == [("a", "offline"), ("b", "offline")]
    assert online.said == []


def test_a_failed_start_online_takes_the_whole_sweep_offline(online: Harness, make: SimpleNamespace) -> None:
    online.fake.fail["init online"] = RuntimeError("Timed out\nConsider increasing init_timeout")
    online.tell(make.started(), make.logged(), make.started(("c",)))
    assert online.states == [("a", "offline"), ("b", "offline"), ("c", "offline")]
    assert [len(run.points) for run in online.fake.runs] == [1, 1, 0]
    assert online.fake.teardowns == 1  # or the id would count as in use
    (said,) = online.said
    assert said.startswith(
        "wandb works offline from now on (RuntimeError: Timed out). To upload: normbench sync"
    )


def test_when_wandb_dies_online_the_runs_go_on_offline_under_their_ids(
    online: Harness, make: SimpleNamespace
) -> None:
    online.tell(make.started(), make.logged(step=10))

    def die_once() -> None:
        online.fake.fail.clear()
        raise GONE

    online.fake.fail["log"] = die_once
    online.tell(make.logged(step=20), make.ended("a", test_error=0.1))
    assert online.states == [("a", "online"), ("b", "online"), ("a", "offline"), ("b", "offline")]
    again = online.fake.by_id("a")[1]
    assert again.arguments["resume"] == "allow"
    assert [point["step"] for point in again.points] == [20]
    assert again.summary["test_error"] == 0.1


def test_results_are_kept_if_wandb_dies_before_finish(online: Harness, make: SimpleNamespace) -> None:
    online.tell(make.started())

    def die_once() -> None:
        online.fake.fail.clear()
        raise GONE

    online.fake.fail["finish"] = die_once
    online.tell(make.ended("a", test_error=0.1), make.ended("b", test_error=0.2))
    for lane, error in (("a", 0.1), ("b", 0.2)):
        run = online.fake.by_id(lane)[-1]
        assert (run.arguments["mode"], run.summary["test_error"], run.exit_code) == ("offline", error, 0)


@pytest.mark.parametrize("call", ["init", "log", "finish"])
def test_when_offline_fails_too_tracking_ends_and_says_so_once(
    call: str, harness: Harness, make: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    harness.fake.fail[call] = OSError(28, "No space left on device")
    harness.fake.fail["teardown"] = sys.exit
    harness.tell(make.started(), make.logged(step=10), make.ended("a"))
    harness.tell(make.logged(step=20), make.started(("c",)))
    harness.session.close()
    assert not harness.session.alive
    assert harness.fake.teardowns == 1
    (said,) = harness.said
    assert "nothing more is tracked (OSError: [Errno 28] No space left on device)" in said
    assert "the local records are complete" in said


def test_an_absent_wandb_is_said_once_and_harms_nothing(
    tracking: TrackingSpec, tmp_path: Path, make: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.delenv("WANDB_MODE")
    said: list[str] = []
    session = WandbSession(tracking, tmp_path, said.append)
    for event in (make.started(), make.logged(), make.ended("a")):
        session.handle(event)
    session.close()
    (text,) = said
    assert "ModuleNotFoundError" in text


def test_runs_of_a_stack_finish_at_the_same_time(harness: Harness, make: SimpleNamespace) -> None:
    harness.tell(make.started(("a", "b", "c")))
    harness.fake.fail["finish"] = Barrier(3, timeout=10).wait  # one after the other would never get past it
    harness.tell(*(make.ended(lane) for lane in "abc"))
    assert [run.exit_code for run in harness.fake.runs] == [0, 0, 0]
    assert harness.session.alive


def test_the_cell_names_what_varies_and_is_a_text(harness: Harness, make: SimpleNamespace) -> None:
    rates = [
        {"optim": {"lr": rate}, "placement": {"name": place}} for rate, place in ((0.1, "a"), (0.2, "b"))
    ]
    harness.tell(SweepStarted(4, 0, 1, 200, varying=("optim.lr", "placement")), make.mixed(*rates, seeds=2))
    cells = [run.arguments["config"]["cell"] for run in harness.fake.runs]
    assert cells == [f"bn b2 lenet5 optim.lr={rate} placement={place}" for rate, place in
                     ((0.1, "a"), (0.1, "a"), (0.2, "b"), (0.2, "b"))]  # fmt: skip


def test_a_group_is_one_configuration_in_every_sweep(harness: Harness, make: SimpleNamespace) -> None:
    stack = make.started(("a", "b"), optim={"lr": 0.1})
    harness.tell(SweepStarted(2, 0, 1, 200), stack)
    harness.tell(SweepStarted(9, 0, 1, 200, varying=("optim.lr",)), make.started(("c",), optim={"lr": 0.1}))
    groups = {run.arguments["group"] for run in harness.fake.runs}
    assert groups == {"bn b2 lenet5 norm.momentum 0.1 optim.lr 0.1 group"}


def test_an_ended_run_gets_the_lowest_errors_of_its_curve_and_the_cost_of_its_statistics(
    harness: Harness, make: SimpleNamespace, tmp_path: Path
) -> None:
    folder = Store(tmp_path / "results").run_folder("aa")
    folder.mkdir(parents=True)
    points = [{"step": 1.0, "test_error": 0.2, "test_loss": 9.0}, {"step": 2.0, "test_error": 0.3}]
    (folder / "history.jsonl").write_text("".join(json.dumps(point) + "\n" for point in points))
    harness.tell(make.started(("aa",)), make.ended("aa", **{"test_error": 0.3, "test_error@batch": 0.25}))
    summary = harness.fake.runs[0].summary
    assert summary == {
        "train_s": 1.5,
        "test_error": 0.3,
        "test_error_batch": 0.25,
        "test_error_min": 0.2,
        "statistics_cost": pytest.approx(0.05),
        "status": "complete",
    }


def end_sweep(harness: Harness, make: SimpleNamespace) -> None:
    """A sweep of four runs: one was found, one is evaluated, two train."""
    found, evaluated = (make.ended(name).record for name in "xy")
    harness.tell(
        SweepStarted(4, 1, 1, 200, evaluations=1, varying=("norm",)),
        RunFound(found),
        make.started(),
        make.ended("a"),
        make.ended("b"),
        RunEvaluated(evaluated, ("test_error",)),
    )


def test_a_sweep_has_one_summary_run_over_all_its_runs(harness: Harness, make: SimpleNamespace) -> None:
    end_sweep(harness, make)
    harness.session.close()
    assert harness.summarized == [(["x", "a", "b", "y"], ("norm",))]
    *runs, summary = harness.fake.runs
    assert {run.arguments["job_type"] for run in runs} == {"bn"}
    given = summary.arguments
    assert (given["job_type"], given["name"], given["tags"]) == ("summary", "summary norm", ["t"])
    assert given["config"] == {"runs": 4, "varying": ["norm"]}
    [point] = summary.points
    assert point["mean_and_sd"] == (["cell", "mean"], [["bn", 0.5]])
    assert point["figures/curve"] == ("image", (3, 2))
    assert summary.summary == {}
    assert summary.exit_code == 0
    assert harness.fake.by_id("a")[0].exit_code == 0


def test_a_summary_says_why_figures_could_not_be_drawn(harness: Harness, make: SimpleNamespace) -> None:
    harness.undrawn = "ImportError: no matplotlib"
    end_sweep(harness, make)
    harness.session.close()
    assert harness.fake.runs[-1].summary == {"figures_not_drawn": "ImportError: no matplotlib"}


def test_an_interrupted_sweep_a_lone_run_and_a_trial_have_no_summary(
    harness: Harness, make: SimpleNamespace
) -> None:
    harness.tell(SweepStarted(3, 0, 1, 200), make.started(), make.ended("a"), make.ended("b"))
    harness.session.close()
    harness.tell(SweepStarted(1, 0, 1, 200), make.started(("c",)), make.ended("c"))
    harness.session.close()
    assert harness.summarized == []


def test_a_summary_that_fails_is_said_and_harms_no_run(harness: Harness, make: SimpleNamespace) -> None:
    def fail(*words: object) -> SweepSummary:
        raise ValueError("no table today")

    harness.session._summarize = fail
    end_sweep(harness, make)
    harness.session.close()
    assert [run.exit_code for run in harness.fake.runs] == [0, 0]
    assert "no table today" in harness.said[-1]


def test_a_summary_that_fails_online_is_made_offline(online: Harness, make: SimpleNamespace) -> None:
    end_sweep(online, make)
    online.fake.fail["init online"] = GONE
    online.session.close()
    summary = online.fake.runs[-1]
    assert (summary.arguments["job_type"], summary.arguments["mode"]) == ("summary", "offline")
    assert [run.exit_code for run in online.fake.runs] == [0, 0, 0]
