"""Saving a view and making a report, with a server on this machine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from normbench import papers
from normbench.cli import run
from normbench.config.compose import compose
from normbench.config.resolve import resolve
from normbench.record import COMPLETE, Record
from normbench.store import Store

pytest.importorskip("wandb_workspaces", reason="wandb-workspaces is missing: pip install '.[dashboard]'")

WHERE = ("--where", "norm=bn,gn")


def store_runs(words: Sequence[str]) -> None:
    """Put finished runs into the store. Their error follows from batch and seed."""
    store = Store.default()
    for config in compose(words):
        spec = resolve(config).spec
        metrics: dict[str, float | None] = {"test_error": 0.01 * spec.batch + 0.001 * spec.seed}
        about = {"stack_size": 1}
        tree = spec.model_dump(mode="json")
        store.put(Record(spec.signature, tree, COMPLETE, metrics, {"train_s": 1.0}, {"torch": "2.6"}, about))


@pytest.fixture
def runs() -> None:
    """Finished runs of two norms with three seeds."""
    store_runs(("norm=bn,gn", "batch=2,4", "seed=range(3)", "steps=10"))


def blocks(view: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [block for block in json.loads(view["spec"])["blocks"] if block["type"] == kind]


def test_push_saves_a_new_view_and_prints_its_address(server, runs, capsys) -> None:
    for _ in range(2):
        assert run(["dashboard", "--push", *WHERE]) == 0
    first, second = server.views
    assert first["displayName"] == "normbench norm bn,gn"
    assert (first["entityName"], first["projectName"]) == ("someone", "normbench")
    assert first["type"] == "project-view"
    assert "id" not in first  # so nothing is replaced
    assert first["name"] != second["name"]
    found = first["name"].removeprefix("nw-").removesuffix("-v")
    printed = capsys.readouterr().out.splitlines()[0]
    assert printed == f"view    {server.url}/someone/normbench?nw={found}"


def test_the_view_that_is_pushed_is_the_one_that_json_prints(server, runs, capsys) -> None:
    assert run(["dashboard", "--json", "--entity", "someone", *WHERE]) == 0
    printed = json.loads(capsys.readouterr().out)["spec"]["section"]
    assert run(["dashboard", "--push", *WHERE]) == 0
    pushed = json.loads(server.views[0]["spec"])["section"]
    for section in (printed, pushed):
        for part in section["panelBankConfig"]["sections"]:
            for panel in part["panels"]:
                del panel["__id__"]
        del section["runSets"][0]["id"]
        section["customRunColors"] = sorted(section["customRunColors"].values())
    assert pushed == printed


def test_a_report_holds_our_table_and_the_panels(server, runs, capsys) -> None:
    assert run(["dashboard", "--report", "--entity", "team", "--project", "mine", *WHERE]) == 0
    [view] = server.views
    assert (view["entityName"], view["projectName"], view["type"]) == ("team", "mine", "runs")
    [text] = [block["content"] for block in blocks(view, "markdown-block")]
    assert "| norm / batch | 2 | 4 |" in text
    assert "2.10 ± 0.10" in text
    [grid] = blocks(view, "panel-grid")
    assert len(grid["metadata"]["panelBankSectionConfig"]["panels"]) == 5
    assert capsys.readouterr().out.startswith(f"report  {server.url}/team/mine/reports/")


def test_a_report_of_a_paper_table_holds_its_verdicts(server) -> None:
    words = ["norm=bn,gn", "batch=2,32", "seed=0,1"]
    extra = {"norm": ["bn", "gn"], "batch": ["2", "32"], "seed": ["0", "1"]}
    for grid in papers.sweeps(papers.load("wu2018/batch_size"), "tiny", extra):
        store_runs(grid)
    assert run(["dashboard", "--report", "--paper", "wu2018/batch_size", *words]) == 0
    [view] = server.views
    [text] = [block["content"] for block in blocks(view, "markdown-block")]
    assert "## Claims" in text
    assert "bn_collapses" in text
    assert view["displayName"] == "normbench wu2018/batch_size tiny"
    [runset] = blocks(view, "panel-grid")[0]["metadata"]["runSets"]
    assert '"wu2018/batch_size"' in json.dumps(runset["filters"])


def test_a_report_needs_a_project_that_exists(server, runs, capsys) -> None:
    assert run(["dashboard", "--report", "--project", "none", *WHERE]) == 1
    assert "project 'someone/none' not found" in capsys.readouterr().err


def test_telemetry_reaches_the_same_server(server, runs) -> None:
    assert run(["dashboard", "--push", *WHERE]) == 0
    assert server.paths <= {"/graphql", "/sdk/otel/v1/metrics"}


def test_without_a_key_nothing_is_sent_and_one_line_says_so(
    server, runs, monkeypatch, tmp_path, capsys
) -> None:
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    for action in ("--push", "--report"):
        assert run(["dashboard", action, *WHERE]) == 2
        said = capsys.readouterr().err
        assert said == (
            f"error: wandb has no API key for {server.url}: wandb login, or set WANDB_API_KEY; "
            "--json needs none\n"
        )
    assert server.views == []


def test_a_server_that_refuses_is_one_line(server, runs, capsys) -> None:
    server.refuse = True
    assert run(["dashboard", "--push", *WHERE]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("error: wandb did not save the view: ")
    assert "permission denied" in said


def test_a_key_without_an_entity_needs_one(server, runs, capsys) -> None:
    server.entity = None
    assert run(["dashboard", "--push", *WHERE]) == 1
    assert "give --entity" in capsys.readouterr().err
