"""The end of a train command: how its runs ended, where their records are, and the command for a table."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from normbench.commands.text_table import columns
from normbench.conditions import quantity
from normbench.labels import field, label, settings, varying
from normbench.phrases import counted
from normbench.record import DIVERGED, FAILED, Record, why_failed
from normbench.store import Store

__all__ = ["DIGITS", "broken", "metric", "summary", "varying"]

#: Digits shown of a signature; enough for `normbench info`.
DIGITS = 8


def summary(
    records: Sequence[Record],
    store: Store,
    *,
    trained: Collection[str],
    elsewhere: Collection[str] = (),
    words: Sequence[str] = (),
) -> list[str]:
    """Lines about the runs of one command.

    Args:
        records: the record of every run asked for, duplicates included.
        store:   the store that holds them.
        trained: signatures of the runs trained by this command.
        elsewhere: signatures of the runs that other processes trained meanwhile.
        words:   arguments that make `normbench table` show these runs alone; none for all runs at hand.
    """
    distinct = list({record.signature: record for record in records}.values())
    make = _one if len(distinct) == 1 else _many
    lines = make(distinct, store, trained, elsewhere)
    if any(record.ended_well for record in distinct):
        rows, cols = table_axes([record.spec for record in distinct])
        axes = ["--rows", ",".join(rows), "--cols", cols]
        lines.append(f"table    {shlex.join(['normbench', 'table', *words, *axes])}")
    return lines


def table_axes(specs: Sequence[Mapping[str, Any]]) -> tuple[list[str], str]:
    """The keys of the rows and of the columns of a table in which no cell averages over what differs.

    Columns are the number with most values. All other fields that differ are rows.

    >>> table_axes([{"norm": {"name": name}, "batch": batch} for name in ("bn", "gn") for batch in (2, 4, 8)])
    (['norm'], 'batch')
    """
    keys = varying(specs)
    numbers = [key for key in keys if all(isinstance(field(spec, key), int | float) for spec in specs)]
    free = [key for key in ("batch", "norm") if key not in keys]
    if numbers:
        cols = numbers[0]
    elif len(keys) > 1:
        cols = keys[-1]
    else:
        cols = free.pop(0)
    return [key for key in keys if key != cols] or ["norm" if cols != "norm" else "batch"], cols


def _one(
    records: Sequence[Record], store: Store, trained: Collection[str], elsewhere: Collection[str]
) -> list[str]:
    [record] = records
    when = "" if record.signature in trained else ", finished before: nothing was trained"
    if record.signature in elsewhere:
        when = ", trained by another process"
    seconds = record.timing.get("train_s")
    took = f" in {seconds:.1f} s" if seconds is not None and record.signature in trained else ""
    lines = [f"run {record.signature} {record.status}{took}{when}"]
    if record.status == FAILED:
        lines.append(f"reason   {why_failed(record.provenance)}; see {store.error_file(record.signature)}")
    width = max(map(len, record.metrics), default=0)
    lines += [f"  {name:<{width}}  {metric(name, value)}" for name, value in record.metrics.items()]
    return [*lines, f"record   {store.run_folder(record.signature)}"]


def _many(
    records: Sequence[Record], store: Store, trained: Collection[str], elsewhere: Collection[str]
) -> list[str]:
    count = Counter(record.status for record in records)
    others = sum(record.signature in elsewhere for record in records)
    before = sum(record.signature not in trained for record in records) - others
    if before == len(records):
        lines = [f"{counted(len(records), 'run')}, all finished before: nothing was trained"]
    else:
        here = f"{len(records) - before - others} trained"
        there = f"{others} trained by other processes, " if others else ""
        lines = [f"{counted(len(records), 'run')}: {here}, {there}{before} finished before"]
    if count[DIVERGED]:
        lines.append(f"diverged {count[DIVERGED]}: a result, kept in the table with its own mark")
    return [*lines, *broken(records, store), f"records  {store.root / 'runs'}"]


def broken(records: Sequence[Record], store: Store) -> list[str]:
    """A table of the failed runs: settings, reason, file of the traceback. Empty if no run failed."""
    distinct = list({record.signature: record for record in records}.values())
    failed = [record for record in distinct if record.status == FAILED]
    keys = [*varying([record.spec for record in distinct]), "seed"]
    if not failed:
        return []
    rows = [
        {
            "run": record.signature[:DIGITS],
            "settings": settings(record.spec, keys),
            "reason": why_failed(record.provenance),
            "traceback": store.error_file(record.signature),
        }
        for record in failed
    ]
    return [f"failed   {len(failed)}", *(f"  {line}" for line in columns(rows))]


def metric(name: str, value: float | None) -> str:
    """A metric as text: errors in percent, the rest with four digits.

    >>> metric("test_error@batch", 0.0425), metric("test_loss", 0.123456), metric("steps_to_0.1", None)
    ('4.25 %', '0.1235', '–')
    """
    if value is None:
        return label(None)
    return f"{100 * value:.2f} %" if quantity(name).endswith("_error") else f"{value:.4g}"
