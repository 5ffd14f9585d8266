"""Runs as rows of plain values, and as a pandas frame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from normbench.errors import InputError
from normbench.labels import field, flatten, varying
from normbench.record import Record
from normbench.store import Store

if TYPE_CHECKING:
    from pandas import DataFrame

#: Fields of every frame, whether or not runs differ in them.
_ALWAYS = ("model", "norm", "data", "batch", "total", "seed")
Row = dict[str, Any]


def frame_of(rows: Sequence[Row], index: str | None = None) -> DataFrame:
    """Rows as a frame of pandas.

    Raises:
        InputError: pandas is not installed.
    """
    try:
        from pandas import DataFrame
    except ImportError:
        raise InputError(
            "a frame needs pandas, which is not installed: pip install 'normbench[pandas]'"
        ) from None
    frame = DataFrame(list(rows))
    return frame if index is None or frame.empty else frame.set_index(index)


def fields_of(records: Sequence[Record], fields: str | Sequence[str] | None) -> list[str]:
    """The dotted names of the columns that say what a run is.

    Args:
        fields: the names; None for those in which runs differ and a few that are always of interest; "all"
            for every field.
    """
    if fields is None:
        return list(dict.fromkeys([*_ALWAYS, *varying([record.spec for record in records])]))
    if fields == "all":
        return list(dict.fromkeys(key for record in records for key in flatten(record.spec)))
    return fields.split(",") if isinstance(fields, str) else list(fields)


def run_rows(records: Sequence[Record], fields: str | Sequence[str] | None = None) -> list[Row]:
    """One row per run: signature, fields, status, metrics, timing. Metrics are fractions.

    A run that has no such field or number has None there.
    """
    names = fields_of(records, fields)
    metrics = dict.fromkeys(name for record in records for name in (*record.metrics, *record.timing))
    rows = []
    for record in records:
        numbers = record.timing | record.metrics
        rows.append(
            {"run": record.signature}
            | {name: _plain(field(record.spec, name)) for name in names}
            | {"status": record.status}
            | {name: numbers.get(name) for name in metrics}
        )
    return rows


def history_rows(
    records: Sequence[Record], store: Store, metrics: str | Sequence[str] | None = None
) -> list[Row]:
    """One row per run, logged step and metric, in long form.

    Args:
        metrics: the names to keep; None for all of the curve.
    """
    wanted = None if metrics is None else {*(metrics.split(",") if isinstance(metrics, str) else metrics)}
    names = [*varying([record.spec for record in records]), "seed"]
    rows: list[Row] = []
    for record in records:
        about = {"run": record.signature} | {name: _plain(field(record.spec, name)) for name in names}
        for point in store.history(record.signature):
            step = point.get("step")
            rows += [
                {**about, "step": step, "metric": name, "value": value}
                for name, value in point.items()
                if name != "step" and (wanted is None or name in wanted)
            ]
    return rows


def _plain(value: Any) -> Any:
    """A value that a column can hold and group by: lists become tuples."""
    return tuple(map(_plain, value)) if isinstance(value, list) else value
