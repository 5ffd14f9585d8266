"""A server on this machine that speaks as much of wandb as views and reports need."""

from __future__ import annotations

import gzip
import json
import os
import warnings
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest

with warnings.catch_warnings(), suppress(ImportError):  # the tests skip without it
    warnings.simplefilter("ignore", DeprecationWarning)  # its own use of pydantic
    import wandb_workspaces.workspaces  # noqa: F401

NOW = "2026-01-01T00:00:00"
PROJECT = {"__typename": "Project", "id": "p", "createdAt": NOW, "isBenchmark": False, "user": None}


class Server(ThreadingHTTPServer):
    """Answers GraphQL. It keeps the variables of every view that is saved.

    entity: of the key; None: the key has none.
    refuse: answer every mutation with an error.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Requests)
        self.entity: str | None = "someone"
        self.refuse = False
        self.projects = ["normbench", "mine"]
        self.views: list[dict[str, Any]] = []
        self.paths: set[str] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, query: str, variables: dict[str, Any]) -> dict[str, Any]:
        if "upsertView" in query:
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
        if "viewer" in query.lower():
            viewer = {
                "id": "u", "name": "someone", "username": "someone", "email": "a@b", "admin": False,
                "entity": self.entity, "flags": "{}", "teams": {"edges": []}, "apiKeys": {"edges": []},
            }  # fmt: skip
            return {"data": {"viewer": viewer}}
        if "GetProjects" in query:
            page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
            nodes = [{**PROJECT, "name": name, "entityName": variables["entity"]} for name in self.projects]
            return {"data": {"models": {"edges": [{"node": node} for node in nodes], "pageInfo": page}}}
        if "ProjectInternalId" in query:
            found = {"id": "p", "internalId": "UHJvamVjdEludGVybmFsSWQ6MQ=="}
            return {"data": {"project": found if variables["projectName"] in self.projects else None}}
        return {"data": {}}


class Requests(BaseHTTPRequestHandler):
    """GraphQL is answered by the server; telemetry and all else with an empty 200."""

    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        self.server.paths.add(self.path)
        answer: dict[str, Any] = {}
        if self.path == "/graphql":
            asked = json.loads(body)
            answer = self.server.answer(asked["query"], asked.get("variables") or {})
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST

    def log_message(self, *words: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The server, with a key for it in the environment."""
    with Server() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.delenv("WANDB_MODE", raising=False)
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
        monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
        yield server
        server.shutdown()
    os.environ.pop("WANDB_SERVICE", None)
