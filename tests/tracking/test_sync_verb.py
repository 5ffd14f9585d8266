"""`normbench sync`: what the server lacks is sent from our own records, once."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from normbench.cli import run
from normbench.config.compose import compose
from normbench.config.resolve import resolve
from normbench.events import RunEnded, StackLogged, StackStarted, SweepStarted
from normbench.record import COMPLETE, FAILED, Addition, Record
from normbench.spec import RunSpec
from normbench.store import Store
from normbench.tracking import wandb_upload
from normbench.tracking.wandb_runs import WandbRuns
from wandb_loopback import Server

WORDS = ("model=mlp", "data=digits", "norm=bn,gn", "batch=8", "steps=10")
ROWS = ({"step": 10, "name": "drift", "layers": {"conv1": 0.5}},)
#: What wandb itself puts into a summary, or what depends on the clock.
OWN = ("_wandb", "_runtime", "_timestamp", "_step")


def put(*words: str, status: str = COMPLETE, tracking: str = "none") -> list[Record]:
    """Put ended runs into the store, each with three points and one reading by layer."""
    made = []
    for config in compose((*WORDS, *words, f"tracking={tracking}")):
        spec = resolve(config).spec
        points = tuple(point(spec, step) for step in (0, 5, 10))
        error: float | None = None if status == FAILED else 0.01 * spec.batch + 0.001 * spec.seed
        metrics = {} if error is None else {"test_error": error}
        record = Record(
            spec.signature, spec.model_dump(mode="json"), status, metrics, {"train_s": 1.25},
            {"torch": "2.6"}, {"stack_size": 1}, history=points, diagnostics=ROWS,
        )  # fmt: skip
        Store.default().put(record)
        made.append(replace(record, history=points, diagnostics=ROWS))
    return made


def point(spec: RunSpec, step: int) -> dict[str, float | None]:
    return {"step": float(step), "images_seen": float(step * spec.batch), "test_error": 0.5 - 0.01 * step}


def track(records: list[Record], varying: tuple[str, ...]) -> None:
    """Track runs live, as training does."""
    specs = [RunSpec.model_validate(record.spec) for record in records]
    tracking = specs[0].tracking
    observer = WandbRuns(tracking, Store.default().root, pytest.fail)
    names = tuple(record.signature for record in records)
    observer.notify(SweepStarted(len(records), 0, 1, 20, varying=varying))
    groups = tuple(spec.group() for spec in specs)
    observer.notify(StackStarted(names, tuple(record.spec for record in records), groups, 10, 0))
    for place, step in enumerate((0, 5, 10)):
        observer.notify(StackLogged(names, step, tuple(record.history[place] for record in records)))
    for record in records:
        observer.notify(RunEnded(record))
    observer.close()


def sync(*words: str) -> int:
    return run(["sync", *words])


def shown(server: Server, name: str) -> dict[str, Any]:
    """What a user sees of a run."""
    sent = server.runs[name]
    config = {key: part["value"] for key, part in json.loads(sent["config"]).items() if key != "_wandb"}
    points = [{key: value for key, value in line.items() if key not in OWN} for line in server.history[name]]
    summary = {key: value for key, value in server.summaries[name].items() if key not in OWN}
    keys = ("displayName", "groupName", "jobType", "tags", "project", "entity")
    return {key: sent[key] for key in keys} | {
        "config": config, "points": points, "summary": summary, "steps": server.steps(name),
    }  # fmt: skip


def test_a_run_that_is_sent_looks_as_if_it_had_been_tracked(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    records = put(tracking="wandb")
    track(records, ("norm",))
    live = {record.signature: shown(server, record.signature) for record in records}
    assert len(server.history) == 2
    for kept in (server.runs, server.summaries, server.history):
        kept.clear()
    assert sync() == 0
    for record in records:
        assert shown(server, record.signature) == live[record.signature]
    assert live[records[0].signature]["steps"] == [0, 5, 10, 11]  # the last line is the one by layer
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"project  normbench at {server.url}: 2 runs, 0 up to date, 2 to send"
    assert all(line.startswith("sent     ") for line in lines[1:])
    assert sorted(line[19:] for line in lines[1:]) == ["bn b8 mlp s0", "gn b8 mlp s0"]


def test_what_the_server_has_is_not_sent_again(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    put()
    assert sync() == 0
    opened = list(server.opened)
    capsys.readouterr()
    assert sync() == 0
    assert server.opened == opened
    out = capsys.readouterr().out
    assert out == f"project  normbench at {server.url}: 2 runs, 2 up to date, 0 to send\n"


def test_a_run_with_a_new_metric_or_with_half_a_curve_is_sent_again_whole(server: Server) -> None:
    first, second = put()
    assert sync() == 0
    Store.default().add(Addition(first.signature, {"test_error@batch": 0.25}, {}, {}))
    del server.history[second.signature][2:]
    del server.opened[:]
    assert sync() == 0
    assert sorted(server.opened) == sorted([first.signature, second.signature])
    assert server.summaries[first.signature]["test_error_batch"] == 0.25
    for record in (first, second):
        assert server.steps(record.signature) == [0, 5, 10, 11]


def test_words_choose_the_runs_and_a_whole_sweep_has_its_summary_once(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    put("seed=0,1")
    for _ in range(2):
        assert sync(*WORDS, "seed=0") == 0
    [summary] = [name for name in server.opened if name.startswith("summary-")]
    assert len(server.opened) == 3
    assert server.runs[summary]["displayName"] == "summary norm"
    assert server.summaries[summary]["mean_and_sd"]["nrows"] > 0
    assert sync("--where", "seed=1") == 0
    assert len(server.opened) == 5
    assert capsys.readouterr().out.count("summary norm") == 1


def test_project_and_entity_can_be_given(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    put()
    assert sync("--project", "mine", "--entity", "team") == 0
    assert {(run["project"], run["entity"]) for run in server.runs.values()} == {("mine", "team")}
    assert capsys.readouterr().out.startswith(f"project  team/mine at {server.url}: 2 runs")


def test_a_dry_run_asks_and_sends_nothing(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    record, _ = put()
    assert sync("--dry-run") == 0
    assert server.opened == []
    out = capsys.readouterr().out
    assert "2 runs, 0 up to date, 2 to send" in out
    assert f"to send  {record.signature[:8]}  bn b8 mlp s0" in out


def test_runs_of_the_words_that_are_not_trained_are_counted(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    put()
    assert sync(*WORDS, "seed=0,1") == 0
    assert "missing  2 runs of these words: not trained yet" in capsys.readouterr().out
    assert len(server.opened) == 2  # and no summary of an incomplete sweep


def test_a_failed_run_is_marked_as_failed(server: Server) -> None:
    first, _ = put(status=FAILED)
    assert sync() == 0
    assert server.exits[first.signature] == 1
    assert server.summaries[first.signature]["status"] == "failed"


def test_a_server_that_takes_no_points_fails_and_the_next_command_sends_the_rest(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    record, _ = put()
    server.broken, server.status = "stream", 403
    assert sync() == 1
    printed = capsys.readouterr()
    assert f"failed   {record.signature[:8]}  bn b8 mlp s0: the server did not take all of it" in printed.out
    assert printed.err == (
        "error: 2 runs not sent: the server did not take all of it; repeat the command to send the rest\n"
    )
    server.broken = ""
    assert sync() == 0
    assert server.steps(record.signature) == [0, 5, 10, 11]


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_refuses_the_key_is_one_line(
    status: int, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    put()
    server.broken, server.status = "all", status
    assert sync() == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"error: {server.url} does not say which runs it has: ")
    assert printed.err.count("\n") == 1


def test_without_a_key_or_against_the_mode_nothing_is_asked(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sync() == 2
    assert "there are no records" in capsys.readouterr().err
    put()
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert sync() == 2
    assert capsys.readouterr().err == "error: WANDB_MODE=offline forbids to send; unset it\n"
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY")
    assert sync() == 2
    said = f"error: wandb has no API key for {server.url}: wandb login, or set WANDB_API_KEY\n"
    assert capsys.readouterr().err == said
    assert server.paths <= {"/sdk/otel/v1/metrics"}


def test_tags_that_changed_here_reach_the_server_and_nothing_else_of_a_run_changes(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = put("tracking.tags=[mine,bad]")
    assert sync() == 0
    before = {each.signature: shown(server, each.signature) for each in (first, second)}
    server.runs[first.signature]["tags"] = ["bad", "theirs", "mine"]  # changed in the browser
    server.runs[second.signature]["tags"] = ["theirs"]
    assert run(["runs", "tag", "rm", "bad", first.signature]) == 0
    assert run(["runs", "tag", "add", "final [red] <b>", first.signature]) == 0
    opened = [*server.opened]
    capsys.readouterr()
    assert sync("--dry-run") == 0
    head = f"project  normbench at {server.url}: 2 runs, 1 up to date, 0 to send, 1 with other tags\n"
    line = f"{first.signature[:8]}  bn b8 mlp s0: theirs, mine, final [red] <b>\n"
    assert capsys.readouterr().out == f"{head}to tag   {line}"
    assert server.runs[first.signature]["tags"] == ["bad", "theirs", "mine"]
    assert sync() == 0
    assert capsys.readouterr().out == f"{head}tagged   {line}"
    assert server.opened == opened  # no run is sent again
    wanted = {first.signature: ["theirs", "mine", "final [red] <b>"], second.signature: ["theirs"]}
    for name, tags in wanted.items():  # a run whose tags did not change here is left alone
        assert shown(server, name) == {**before[name], "tags": tags}
    assert sync() == 0
    assert "2 runs, 2 up to date, 0 to send\n" in capsys.readouterr().out


def test_a_tag_that_was_taken_away_and_added_again_is_there(server: Server) -> None:
    record, _ = put()
    for act in ("add", "rm", "add"):
        assert run(["runs", "tag", act, "draft", record.signature]) == 0
    assert sync() == 0
    assert server.runs[record.signature]["tags"] == ["draft"]
    assert run(["runs", "tag", "rm", "draft", record.signature]) == 0
    assert sync() == 0
    assert not server.runs[record.signature]["tags"]


def test_a_run_that_is_sent_again_keeps_the_tags_that_it_got_on_the_server(server: Server) -> None:
    record, _ = put("tracking.tags=[mine]")
    assert sync() == 0
    server.runs[record.signature]["tags"] = ["mine", "theirs"]
    del server.history[record.signature][2:]
    assert sync() == 0
    assert server.steps(record.signature) == [0, 5, 10, 11]
    assert sorted(server.runs[record.signature]["tags"]) == ["mine", "theirs"]


def test_tags_that_do_not_reach_the_server_fail_the_command(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record, _ = put()
    assert sync() == 0
    assert run(["runs", "tag", "add", "draft", record.signature]) == 0

    monkeypatch.setattr(wandb_upload, "set_tags", lambda *_: iter(()))
    assert sync() == 1
    printed = capsys.readouterr()
    assert f"failed   {record.signature[:8]}  bn b8 mlp s0: the server has no such run" in printed.out
    assert "1 run not sent" in printed.err


@pytest.mark.slow
def test_a_server_that_vanishes_half_way_and_comes_back_has_every_run_once(
    distant_server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    put("seed=range(10)")
    distant_server.broken, distant_server.status, distant_server.streams = "stream", 403, 16
    assert sync() == 1
    printed = capsys.readouterr()
    assert "runs not sent: " in printed.err
    distant_server.broken = ""
    assert sync() == 0
    assert sync() == 0
    assert len(distant_server.history) == 20
    assert all(distant_server.steps(name) == [0, 5, 10, 11] for name in distant_server.history)
    assert "20 runs, 20 up to date, 0 to send" in capsys.readouterr().out


@pytest.mark.slow
def test_runs_that_training_tracked_are_up_to_date(
    distant_server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("model=mlp", "data=digits", "norm=bn,ln_c", "batch=8", "steps=5", "engine.device=cpu")
    assert run(["train", *words, "tracking=wandb"]) == 0
    capsys.readouterr()
    assert sync(*words) == 0
    assert "2 runs, 2 up to date, 0 to send" in capsys.readouterr().out
