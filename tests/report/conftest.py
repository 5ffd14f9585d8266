"""Records made through the real specification, so that tables are tested on what training writes."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from normbench.config.resolve import declared, resolve
from normbench.record import COMPLETE, Record
from normbench.report.cells import Table
from normbench.report.tables import build_table

GOLDEN = Path(__file__).parents[1] / "golden"


@cache
def _baseline() -> bytes:
    return pickle.dumps(yaml.safe_load((files("normbench.conf") / "config.yaml").read_text()))


def _config(spec: Mapping[str, Any]) -> dict[str, Any]:
    """The packaged baseline with other choices, merged by hand: composing with Hydra is slower by far."""
    named = {
        group: part["name"] for group, part in spec.items() if isinstance(part, Mapping) and "name" in part
    }
    choices = (
        {"tracking": "none"} | named | {group: name for group, name in spec.items() if isinstance(name, str)}
    )
    baseline: dict[str, Any] = pickle.loads(_baseline())
    for default in baseline.pop("defaults"):
        if isinstance(default, dict) and not next(iter(default)).startswith("override"):
            [(group, name)] = default.items()
            baseline[group] = dict(declared(group, choices.get(group, name)))
    del baseline["hydra"]
    return baseline


@pytest.fixture
def make() -> Callable[..., Record]:
    """make(0.02, norm="gn", batch=2, seed=1, optim={"lr": 0.05}) → a Record with that test error."""

    def record(
        test_error: float | None,
        *,
        status: str = COMPLETE,
        metrics: Mapping[str, float | None] | None = None,
        environment: Mapping[str, str] | None = None,
        **spec: Any,
    ) -> Record:
        config = _config(spec)
        for key, value in spec.items():
            if isinstance(value, Mapping):
                config[key] |= value
            elif not isinstance(value, str):
                config[key] = value
        run = resolve(config).spec
        return Record(
            signature=run.signature,
            spec=run.model_dump(mode="json"),
            status=status,
            metrics={"test_error": test_error, **(metrics or {})},
            timing={"train_s": 1.5},
            environment={"device": "cpu", "torch": "2.6.0", **(environment or {})},
            provenance={"commit": "0123456789ab", "stack_size": 1, "lane": 0},
        )

    return record


@pytest.fixture
def runs(make: Callable[..., Record]) -> list[Record]:
    """BN and GN over 2 and 32 images, three seeds each; BN is ahead at 32 and behind at 2."""
    errors = {"bn": (0.020, 0.022, 0.021), "gn": (0.030, 0.033, 0.031)}
    made = []
    for seed in range(3):
        for norm, values in errors.items():
            harm = (0.4 if norm == "bn" else 0.0) + 0.01 * seed
            made.append(make(values[seed], norm=norm, batch=32, total=32, seed=seed))
            made.append(make(values[seed] + harm, norm=norm, batch=2, total=32, seed=seed))
    return made


@pytest.fixture
def numbered() -> Callable[[list[Record]], list[Record]]:
    """Records with signatures that count: golden files do not change when the identity of a run does."""
    return lambda records: [replace(record, signature=f"{i:016x}") for i, record in enumerate(records)]


@pytest.fixture
def golden() -> Callable[[str, str], None]:
    """golden(name, text): the text is that of tests/golden/<name>; NORMBENCH_UPDATE_GOLDEN=1 writes it."""

    def check(name: str, text: str) -> None:
        file = GOLDEN / name
        if os.environ.get("NORMBENCH_UPDATE_GOLDEN"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        assert text == file.read_text(encoding="utf-8")

    return check


@pytest.fixture
def lossy(make: Callable[..., Record], runs: list[Record], numbered: Callable[..., list[Record]]) -> Table:
    """A table with all that can happen to runs.

    At 2, ln_chw has one value and lost one run in each way; one run of sn failed and two ended. None of frn's
    is there, and in is impossible. At 32, the run of none diverged, the runs of rms failed. No other cell of
    these was asked for.
    """
    lost = {"batch": 2, "total": 32}
    runs.append(make(None, norm="none", batch=32, total=32, seed=0, status="diverged"))
    runs += [make(None, norm="rms", batch=32, total=32, seed=seed, status="failed") for seed in range(2)]
    runs += [make(0.06 + 0.01 * seed, norm="sn", seed=seed, **lost) for seed in range(2)]
    runs.append(make(None, norm="sn", seed=2, status="failed", **lost))
    runs.append(make(0.05, norm="ln_chw", seed=0, **lost))
    runs += [
        make(None, norm="ln_chw", seed=1 + i, status=how, **lost)
        for i, how in enumerate(("diverged", "failed"))
    ]
    missing = [make(None, norm="ln_chw", seed=3, status="missing", **lost)]
    missing += [make(None, norm="frn", seed=seed, status="missing", **lost) for seed in range(2)]
    why = {"error": "instance norm needs more than one position"}
    skipped = [replace(make(None, norm="in", seed=0, status="skipped", **lost), provenance=why)]
    return build_table(numbered(runs), "norm", "batch", "test_error", missing=missing, skipped=skipped)


#: Names that mean something to a terminal, Markdown, HTML or LaTeX, or that pdfLaTeX has no letters for.
HOSTILE = (
    "[red]x[/]", "<b>n</b>", "_a_", "50%", "a&b", "a|b", "two\nlines", "\u202ertl", "*s*", "`c`", "$x$",
    "{y}", "\\z", "&lt;", "#1", "~", "\ud800", "a\tb", " · ", "图像", "é«Ð»", "γ÷μ", "€ 3", "\\input{x}",
)  # fmt: skip


@pytest.fixture
def hostile_runs(make: Callable[..., Record]) -> list[Record]:
    """One run per name of HOSTILE."""
    runs = []
    for number, name in enumerate(HOSTILE):
        run = make(0.1, seed=number)
        runs.append(replace(run, spec=run.spec | {"norm": run.spec["norm"] | {"name": name}}))
    return runs


@pytest.fixture
def hostile(hostile_runs: list[Record]) -> Table:
    """The table of these runs: a row per name."""
    table = build_table(hostile_runs, "norm", "batch", "test_error")
    assert len(table.row_labels) == len(HOSTILE)
    return table
