"""Runs as a list: what varies, status, steps, a metric, size on disk and age."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from normbench.commands.runs_at_hand import RunAtHand
from normbench.errors import unknown
from normbench.labels import field, settings, varying
from normbench.phrases import lasting, sized
from normbench.record import COMPLETE, Record
from normbench.report.metrics import check_metric, measured
from normbench.report.run_list import RunList
from normbench.report.selection import check_keys, value
from normbench.report.text import natural
from normbench.visible import visible

#: Fields of the label if runs do not differ.
_ALONE = ("model", "norm", "batch")
#: Columns that people do not see if they are empty.
_IF_ANY = ("tags", "note")


def listing(runs: Sequence[RunAtHand], metric: str = "test_error", *, files: bool = False) -> RunList:
    """One line per run.

    Args:
        metric: the one that is shown, a fraction as in `table --runs`.
        files:  for files: bytes and times as they are, all columns, the folder. Else for people.

    Raises:
        InputError: no run has the metric, and it is none that every run reports.
    """
    ended = [run.record for run in runs if run.record.metrics]
    if ended:
        check_metric(ended, metric)
    label = labels([run.record for run in runs])
    columns: dict[str, Callable[[RunAtHand], Any]] = {
        "run": lambda run: run.signature,
        "label": lambda run: visible(label(run.record)),
        "status": lambda run: run.record.status,
        "steps": lambda run: run.steps,
        metric: lambda run: shown(run.record, metric),
        "bytes" if files else "size": lambda run: run.size if files else sized(run.size),
        "changed" if files else "age": _time if files else _age,
        "tags": lambda run: ",".join(run.record.tags) if files else visible(", ".join(run.record.tags)),
        "note": lambda run: run.note if files else visible(run.note),
    }
    if files:
        columns["folder"] = lambda run: str(run.folder)
    rows = [[read(run) for read in columns.values()] for run in runs]
    names = list(columns)
    kept = [i for i, name in enumerate(names) if files or name not in _IF_ANY or any(row[i] for row in rows)]
    return RunList(tuple(names[i] for i in kept), tuple(tuple(row[i] for i in kept) for row in rows))


def labels(records: Sequence[Record]) -> Callable[[Record], str]:
    """A function that names a run by what sets it apart from the others; empty if that is not known."""
    specs = [record.spec for record in records if record.spec]
    keys = [*(varying(specs) if specs else ()), "seed"]
    keys = keys if len(keys) > 1 else [*_ALONE, "seed"]
    return lambda record: settings(record.spec, keys) if record.spec else ""


def shown(record: Record, metric: str) -> float | None:
    """The metric of a run that is complete; None for others."""
    return measured(record, metric) if record.status == COMPLETE else None


def in_order(runs: Sequence[RunAtHand], by: str, metric: str, *, reverse: bool = False) -> list[RunAtHand]:
    """The runs by a column of the listing, or by a key of runs such as `norm`; those without a value last.

    Raises:
        InputError: there is no such column or key.
    """
    columns: dict[str, Callable[[RunAtHand], Any]] = {
        "run": lambda run: run.signature,
        "status": lambda run: run.record.status,
        "steps": lambda run: run.steps,
        "metric": lambda run: shown(run.record, metric),
        metric: lambda run: shown(run.record, metric),
        "size": lambda run: run.size,
        "age": lambda run: None if run.changed is None else -run.changed,
    }
    if by not in columns:
        records = [run.record for run in runs if run.record.spec]
        try:
            check_keys(records, [by])
        except ValueError:
            raise unknown("key to sort by", by, [*columns, "norm", "batch", "seed"]) from None
        columns[by] = lambda run: _sortable(run.record, by)
    known = [(found, run) for run in runs if (found := columns[by](run)) is not None]
    known.sort(key=lambda pair: pair[0], reverse=reverse)
    return [run for _, run in known] + [run for run in runs if columns[by](run) is None]


def _sortable(record: Record, key: str) -> Any:
    if not record.spec:
        return None
    given = field(record.spec, key) if key == "total" else value(record, key)
    return None if given is None else natural(str(given))


def _age(run: RunAtHand) -> str:
    return "" if run.changed is None else lasting(time.time() - run.changed)


def _time(run: RunAtHand) -> str | None:
    if run.changed is None:
        return None
    return datetime.fromtimestamp(run.changed, UTC).isoformat(timespec="seconds")
