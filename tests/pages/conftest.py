"""A table with everything that can happen, its runs, and a name that must be escaped."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mlp_spec import mlp_spec
from normbench.papers.catalogue import parse
from normbench.record import Record

HOSTILE = "\"'><script>alert(1)</script><img src=x onerror=alert(1)>\u202e"

TABLE = """
title: TITLE
question: QUESTION
citation: CITATION
published:
  - {id: weak, source: SOURCE, trust: weak, setting: SETTING, key: norm, values: {bn: 0.2, gn: 0.3}}
  - {id: eye, source: e, trust: figure, setting: s, key: norm, along: batch, at: [2], values: {gn: [0.25]}}
figures:
  - {id: by_batch, kind: curve, x: batch, hue: norm, log: [x], published: true}
  - {id: course, kind: training, hue: norm, panel: batch, metric: train_loss}
scales:
  tiny:
    setting: digits
    rows: [norm]
    cols: [batch]
    published: [{id: weak}, {id: eye}]
    grids: [{data: digits, model: mlp, norm: [bn, gn, frn], batch: [2, 32], steps: 10, seed: [0, 1, 2]}]
    claims:
      - id: collapse
        text: CLAIM
        kind: greater
        a: {norm: bn, batch: 2}
        b: {norm: bn, batch: 32}
        margin: 0.1
"""


@pytest.fixture
def hostile() -> str:
    """A name that would run as a script, or break out of an attribute, if it were not escaped."""
    return HOSTILE


@pytest.fixture
def make() -> Callable[..., Record]:
    """A function that makes the record of a run of TABLE."""

    def made(error: float | None, norm: str = "bn", batch: int = 2, seed: int = 0, **given: Any) -> Record:
        number = ["bn", "gn", "frn"].index(norm) * 10_000 + batch * 100 + seed
        spec = mlp_spec(norm, batch, seed)
        record = Record(
            f"{number:016x}"[::-1], spec, "complete", {} if error is None else {"test_error": error},
            {"train_s": 1.0}, {"torch": "2.6.0", "device": "cpu"},
            {"commit": "0123456789ab", "ended": "2026-01-02T03:04:05+00:00"},
        )  # fmt: skip
        return replace(record, **given)

    return made


@pytest.fixture
def records(make) -> list[Record]:
    """bn is complete; gn has a diverged and a failed run; frn at 2 has one run of three, at 32 none."""
    found = [make(0.02 + (0.4 + 0.002 * (seed == 1)) * (batch == 2) + 0.01 * seed, batch=batch, seed=seed)
             for batch in (2, 32) for seed in range(3)]  # fmt: skip
    found += [make(0.03 + 0.01 * seed, "gn", 32, seed) for seed in range(3)]
    found += [
        make(0.05, "gn", 2, 0),
        make(None, "gn", 2, 1, status="diverged"),
        make(None, "gn", 2, 2, status="failed", provenance={"error": "RuntimeError: no luck"}),
    ]
    return [*found, make(0.04, "frn", 2, 1)]


@pytest.fixture
def table():
    """A function from texts to replace in TABLE to the table."""

    def parsed(**texts: str):
        text = TABLE
        for name, value in texts.items():
            text = text.replace(name, json.dumps(value))
        return parse("mine/table", text)

    return parsed


def history(signature: str) -> tuple[dict[str, float], ...]:
    """A curve, the same for all runs."""
    points = [
        {"step": float(step), "train_loss": 2.0 / step, "train_error": 0.5 / step} for step in range(1, 11)
    ]
    return (*points[:-1], {**points[-1], "test_loss": 0.4, "test_error": 0.1})


@pytest.fixture
def curve_of():
    return history
