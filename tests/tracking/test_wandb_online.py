"""The real wandb, online, with a server on this machine."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from normbench.events import RunFound, SweepStarted
from normbench.spec import TrackingSpec
from normbench.tracking.sweep_summary import Summarize, SweepSummary
from normbench.tracking.wandb_runs import WandbRuns

NONE: dict[str, Any] = {"edges": []}


class Server(ThreadingHTTPServer):
    """As much of wandb's server as runs need. It keeps what they send."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Requests)
        self.runs: dict[str, dict[str, Any]] = {}  # id → the variables of its first UpsertBucket
        self.summaries: dict[str, dict[str, Any]] = {}
        self.history: dict[str, list[dict[str, Any]]] = {}

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        if "upsertBucket" in query:
            self.runs.setdefault(variables["name"], variables)
            owner = {"id": "e", "name": variables["entity"] or "user"}
            bucket = {
                "id": "b", "name": variables["name"], "displayName": variables["displayName"],
                "historyLineCount": 0, "description": None, "config": "{}",
                "sweepName": variables.get("sweep"),
                "project": {"id": "p", "name": variables["project"], "entity": owner},
            }  # fmt: skip
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if "createRunFiles" in query:
            url = f"http://127.0.0.1:{self.server_port}/upload/"
            files = [{"name": name, "uploadUrl": url + name} for name in variables["files"]]
            return {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}
        if "Viewer" in query:
            return {"viewer": {"id": "u", "entity": "user", "username": "user", "flags": "{}", "teams": NONE}}
        if "ArtifactType" in query:
            return {"project": {"artifact": None}}
        if "createArtifact(" in query:
            sequence = {"id": "s", "latestArtifact": {"id": "x"}}
            return {
                "createArtifact": {
                    "artifact": {"id": "x", "state": "COMMITTED", "artifactSequence": sequence}
                }
            }
        return {}

    def keep(self, run: str, files: dict[str, Any]) -> None:
        for name, part in files.items():
            lines = [json.loads(line) for line in part["content"]]
            if name == "wandb-summary.json":
                self.summaries[run] = lines[-1]
            elif name == "wandb-history.jsonl":
                self.history.setdefault(run, []).extend(lines)


class Requests(BaseHTTPRequestHandler):
    """Answers GraphQL and the streams of runs; accepts every upload."""

    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        answer: dict[str, Any] = {}
        if self.path == "/graphql":
            asked = json.loads(body)
            answer = {"data": self.server.answer(asked["query"], asked.get("variables") or {})}
        elif stream := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", self.path):
            self.server.keep(stream[1], json.loads(body).get("files") or {})
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_PUT = do_POST

    def log_message(self, *words: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(no_credentials: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with Server() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.server_port}")
        monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
        monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
        yield server
        import wandb

        wandb.teardown()
        server.shutdown()
    os.environ.pop("WANDB_SERVICE", None)


def track(tracking: TrackingSpec, root: Path, *events: Any, summarize: Summarize | None = None) -> list[str]:
    """What is said while these events are tracked."""
    said: list[str] = []
    observer = WandbRuns(tracking, root, said.append, summarize)
    for event in events:
        observer.notify(event)
    observer.close()
    return said


def test_every_run_of_a_sweep_reaches_the_server(
    server: Server, tracking: TrackingSpec, tmp_path: Path, make: SimpleNamespace
) -> None:
    stack = make.mixed({"optim": {"lr": 0.1}}, {"optim": {"lr": 0.2}})
    ends = [make.ended(signature, test_error=0.125) for signature in stack.signatures]
    sweep = SweepStarted(2, 0, 1, 200, varying=("optim.lr",))
    assert track(tracking, tmp_path, sweep, stack, make.logged(stack.signatures, step=10), *ends) == []
    assert {run["displayName"] for run in server.runs.values()} == {
        "bn b2 lenet5 optim.lr=0.1 s0",
        "bn b2 lenet5 optim.lr=0.2 s0",
    }
    for signature in stack.signatures:
        assert (server.runs[signature]["project"], server.runs[signature]["tags"]) == ("p", ["t"])
        assert server.summaries[signature]["test_error"] == 0.125
        assert [point["step"] for point in server.history[signature]] == [10]


def test_the_summary_of_a_sweep_reaches_the_server(
    server: Server, tracking: TrackingSpec, tmp_path: Path, make: SimpleNamespace
) -> None:
    out = io.BytesIO()
    Image.new("RGB", (3, 2)).save(out, "png")
    rows = (("bn b2", 0.5, None), ("gn b2", 0.25, 0.125))
    made = SweepSummary(("cell", "mean", "sd"), rows, {"curve": out.getvalue()})
    ends = [make.ended(signature, test_error=0.5) for signature in "ab"]
    sweep = SweepStarted(2, 0, 1, 200, varying=("norm",))
    said = track(tracking, tmp_path, sweep, make.started(), *ends, summarize=lambda *words: made)
    assert said == []
    [summary] = [name for name in server.runs if name.startswith("summary-")]
    sent = server.runs[summary]
    assert (sent["displayName"], sent["jobType"], sent["project"]) == ("summary norm", "summary", "p")
    assert server.runs["a"]["groupName"].startswith("bn b2 lenet5")
    table = server.summaries[summary]["mean_and_sd"]
    assert (table["_type"], table["nrows"], table["ncols"]) == ("table-file", 2, 3)
    image = server.summaries[summary]["figures/curve"]
    assert (image["_type"], image["width"], image["height"]) == ("image-file", 3, 2)


def test_under_an_agent_the_server_gets_one_run_and_its_metric(
    agent: str, server: Server, tracking: TrackingSpec, tmp_path: Path, make: SimpleNamespace
) -> None:
    seeds = make.ended("a", test_error=0.25), make.ended("b", test_error=0.75)
    said = track(tracking, tmp_path, SweepStarted(2, 0, 1, 200), make.started(), make.logged(step=10), *seeds)
    assert [text for text in said if "agent" not in text] == []
    ((run, sent),) = server.runs.items()
    assert (run, sent["project"], sent["entity"], sent["sweep"]) == (agent, "theirs", "team", "s1")
    assert server.summaries[agent]["test_error"] == 0.5
    assert [point["train_loss"] for point in server.history[agent]] == [0.5]


def test_under_an_agent_a_finished_run_reaches_the_server_from_its_record(
    agent: str, server: Server, tracking: TrackingSpec, tmp_path: Path, make: SimpleNamespace
) -> None:
    record = replace(
        make.ended("a", test_error=0.25).record,
        spec=make.spec(0),
        history=({"step": 5.0, "train_loss": 2.0},),
    )
    assert track(tracking, tmp_path, RunFound(record)) == []
    assert list(server.runs) == [agent]
    assert server.summaries[agent]["test_error"] == 0.25
    assert [point["train_loss"] for point in server.history[agent]] == [2.0]
