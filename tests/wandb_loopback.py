"""A server on this machine that speaks as much of wandb as runs, views and reports need."""

from __future__ import annotations

import gzip
import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

import pytest

NOW = "2026-01-01T00:00:00"
NONE: dict[str, Any] = {"edges": []}
PROJECT = {"__typename": "Project", "id": "p", "createdAt": NOW, "isBenchmark": False, "user": None}
PAGE = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
STREAM = r"/files/[^/]+/[^/]+/([^/]+)/file_stream"


class Server(ThreadingHTTPServer):
    """Keeps what is sent. A test can make it refuse, stall or vanish.

    entity:   of the key; None: the key has none.
    refuse:   answer every mutation of views with an error.
    broken:   which requests get `status` instead of an answer: "all", "stream" (points of runs), "" none.
    status:   the HTTP status of a broken request; 0: it gets no answer until the end of the test.
    streams:  answer so many streams before `broken` holds.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Requests)
        self.entity: str | None = "someone"
        self.refuse = False
        self.broken, self.status, self.streams = "", 500, 0
        self.end = Event()
        self.projects = ["normbench", "mine"]
        self.views: list[dict[str, Any]] = []
        self.paths: set[str] = set()
        self.runs: dict[str, dict[str, Any]] = {}  # id → the variables of its last opening
        self.opened: list[str] = []  # ids in the order in which they were opened
        self.summaries: dict[str, dict[str, Any]] = {}
        self.history: dict[str, list[dict[str, Any]]] = {}
        self.exits: dict[str, int] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def breaks(self, path: str) -> bool:
        """Whether a request gets no proper answer."""
        if self.broken == "stream" and re.fullmatch(STREAM, path):
            self.streams -= 1
            return self.streams < 0
        return self.broken == "all"

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        if "upsertView" in query:
            return self._view(variables)
        if "upsertBucket" in query and str(variables.get("id")).startswith("b-"):  # from the public API
            self._change(variables)
            return {"data": {"upsertBucket": {"bucket": {"id": variables["id"]}}}}
        if "upsertBucket" in query:
            return {"data": {"upsertBucket": {"bucket": self._bucket(variables), "inserted": True}}}
        if "RunResumeStatus" in query:
            project = {"id": "p", "name": variables["project"], "entity": {"id": "e", "name": "someone"}}
            return {"data": {"model": {**project, "bucket": self._resumed(variables["name"])}}}
        if "createRunFiles" in query:
            files = [{"name": name, "uploadUrl": f"{self.url}/upload/{name}"} for name in variables["files"]]
            return {"data": {"createRunFiles": {"runID": "b", "uploadHeaders": [], "files": files}}}
        if "ArtifactType" in query:
            return {"data": {"project": {"artifact": None}}}
        if "createArtifact(" in query:
            sequence = {"id": "s", "latestArtifact": {"id": "x"}}
            made = {"id": "x", "state": "COMMITTED", "artifactSequence": sequence}
            return {"data": {"createArtifact": {"artifact": made}}}
        if "viewer" in query.lower():
            viewer = {
                "id": "u", "name": "someone", "username": "someone", "email": "a@b", "admin": False,
                "entity": self.entity, "flags": "{}", "teams": NONE, "apiKeys": NONE,
            }  # fmt: skip
            return {"data": {"viewer": viewer}}
        if "query Runs(" in query:
            return {"data": {"project": self._found(variables)}}
        if "GetProjects" in query:
            nodes = [{**PROJECT, "name": name, "entityName": variables["entity"]} for name in self.projects]
            return {"data": {"models": {"edges": [{"node": node} for node in nodes], "pageInfo": PAGE}}}
        if "ProjectInternalId" in query:
            found = {"id": "p", "internalId": "UHJvamVjdEludGVybmFsSWQ6MQ=="}
            return {"data": {"project": found if variables["projectName"] in self.projects else None}}
        return {"data": {}}

    def keep(self, run: str, sent: dict[str, Any]) -> None:
        """Keep lines of a run. An offset says from which line on they stand, as for the real server."""
        for name, part in (sent.get("files") or {}).items():
            lines = [json.loads(line) for line in part["content"]]
            if name == "wandb-summary.json":
                self.summaries[run] = lines[-1]
            elif name == "wandb-history.jsonl":
                self.history[run] = [*self.history.get(run, [])[: part["offset"]], *lines]
        if sent.get("complete"):
            self.exits[run] = sent.get("exitcode", 0)

    def steps(self, run: str) -> list[int]:
        """`_step` of every line of a run's history."""
        return [line["_step"] for line in self.history.get(run, [])]

    def _bucket(self, variables: dict[str, Any]) -> dict[str, Any]:
        name = variables["name"]
        if variables.get("displayName"):
            self.opened.append(name)
            self.runs[name] = variables
        owner = {"id": "e", "name": variables["entity"] or "someone"}
        return {
            "id": "b", "name": name, "displayName": variables["displayName"], "historyLineCount": 0,
            "description": None, "config": "{}", "sweepName": variables.get("sweep"),
            "project": {"id": "p", "name": variables["project"], "entity": owner},
        }  # fmt: skip

    def _change(self, variables: dict[str, Any]) -> None:
        """What `Run.update` of wandb's public API sends: tags, and again all else that it knows."""
        if "summaryMetrics" in variables:
            self.summaries[variables["id"].removeprefix("b-")] = json.loads(variables["summaryMetrics"])
            return
        renamed = {"displayName": variables["display_name"], "groupName": variables["groupName"]}
        sent = {key: variables[key] for key in ("tags", "config", "jobType")}
        self.runs[variables["name"]] |= sent | renamed

    def _resumed(self, name: str) -> dict[str, Any] | None:
        if name not in self.runs:
            return None
        lines = self.history.get(name, [])
        tail = json.dumps([json.dumps(line) for line in lines[-1:]])
        return {
            "id": "b", "name": name, "summaryMetrics": json.dumps(self.summaries.get(name, {})),
            "displayName": self.runs[name]["displayName"], "logLineCount": 0, "eventsLineCount": 0,
            "historyLineCount": len(lines), "historyTail": tail,
            "eventsTail": "[]", "config": "{}", "tags": [], "wandbConfig": json.dumps({"t": 1}),
        }  # fmt: skip

    def _found(self, variables: dict[str, Any]) -> dict[str, Any] | None:
        project = variables["project"]
        own = {name: run for name, run in self.runs.items() if run["project"] == project}
        if not own:
            return None
        wanted = json.loads(variables["filters"])["name"]["$in"]
        nodes = [
            {
                "id": f"b-{name}", "name": name, "displayName": own[name]["displayName"],
                "tags": own[name].get("tags") or [], "state": "finished",
                "config": own[name]["config"], "group": own[name]["groupName"],
                "jobType": own[name]["jobType"], "commit": None, "readOnly": False,
                "createdAt": NOW, "heartbeatAt": NOW, "description": None, "notes": None,
                "summaryMetrics": json.dumps(self.summaries.get(name, {})), "systemMetrics": "{}",
                "historyLineCount": len(self.history.get(name, [])), "historyKeys": {},
                "user": {"name": "someone", "username": "someone"}, "projectId": 1, "sweepName": None,
            }
            for name in wanted if name in own
        ]  # fmt: skip
        edges = [{"node": node, "cursor": node["name"]} for node in nodes]
        runs = {"edges": edges, "pageInfo": PAGE}
        return {"internalId": "i", "runCount": len(nodes), "readOnly": False, "runs": runs}

    def _view(self, variables: dict[str, Any]) -> dict[str, Any]:
        if self.refuse:
            return {"errors": [{"message": "permission denied"}]}
        self.views.append(variables)
        place, owner = len(self.views), variables["entityName"]
        view = {
            "id": f"view{place}", "type": variables["type"], "name": variables["name"],
            "displayName": variables["displayName"], "description": variables["description"],
            "project": {"id": "p", "name": variables["projectName"], "entityName": owner},
            "spec": variables["spec"], "updatedAt": NOW,
        }  # fmt: skip
        return {"data": {"upsertView": {"view": view, "inserted": True}}}


class Requests(BaseHTTPRequestHandler):
    """GraphQL and streams are answered by the server; uploads, telemetry and all else with an empty 200."""

    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.paths.add(self.path)
        answer: dict[str, Any] = {}
        status = 200
        if self.server.breaks(self.path):
            status = self.server.status
            if not status:
                self.server.end.wait()
                return
        elif self.path == "/graphql":
            asked = json.loads(body)
            answer = self.server.answer(asked["query"], asked.get("variables") or {})
        elif stream := re.fullmatch(STREAM, self.path):
            self.server.keep(stream[1], json.loads(body))
        text = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_PUT = do_POST

    def log_message(self, *words: object) -> None:
        """Say nothing."""


@contextmanager
def serving(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that runs, with a key for it in the environment. wandb of this process is torn down after."""
    with Server() as server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        monkeypatch.delenv("WANDB_MODE", raising=False)
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
        monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
        yield server
        import wandb

        wandb.teardown()
        server.end.set()
        server.shutdown()
    os.environ.pop("WANDB_SERVICE", None)
