"""What must stand under a table: what cells pool, how many seeds, what bold means, where it comes from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePath

from normbench.record import Record
from normbench.report.cells import Table
from normbench.report.selection import flatten, label, natural
from normbench.report.stats import LEVEL, MIN_SEEDS

#: What repetitions may differ in: the seed, and where and how a run was computed and tracked.
_IMMATERIAL = re.compile(r"seed$|data\.(root|path|download)$|engine\.(?!precision$)|tracking\.")


def warnings(groups: Sequence[Sequence[Record]]) -> tuple[str, ...]:
    """One line where cells pool runs that are no repetitions of each other."""
    pooled: dict[str, set[str]] = {}
    count = 0
    for group in groups:
        differing = _differing(group)
        count += bool(differing)
        for key, values in differing.items():
            pooled.setdefault(key, set()).update(values)
    if not pooled:
        return ()
    return (
        f"{count} of {len(groups)} cells pool runs that differ in {_listing(pooled)}; "
        "select with where, or make it a row or a column",
    )


def notes(groups: Sequence[Sequence[Record]], table: Table, tested: int) -> tuple[str, ...]:
    """The lines under a table, most important first."""
    records = [record for group in groups for record in group]
    if not records:
        return ("No runs yet.",)
    return (
        _seeds(table),
        *_significance(table, tested),
        *_companions(records, {key for group in groups for key in _differing(group)}, table),
        _provenance(records),
    )


def _seeds(table: Table) -> str:
    counts = {cell.summary.n for cell in table.cells.values() if cell.summary.n}
    if not counts:
        return "No cell has a value."
    if counts == {1}:
        return "One seed per cell: a spread cannot be given."
    exception = " unless a cell says otherwise" if len(counts) > 1 else ""
    return f"Mean ± sd over n = {table.usual_n} seeds{exception}."


def _significance(table: Table, tested: int) -> list[str]:
    lines = []
    if any(0 < cell.summary.n < MIN_SEEDS for cell in table.cells.values()):
        lines.append(f"Fewer than {MIN_SEEDS} seeds in some cells: no significance is claimed there.")
    if tested:
        method = f"paired by seed, t-test, Holm over {tested} column{'s' * (tested > 1)}, {LEVEL:g}"
        if any(cell.best for cell in table.cells.values()):
            lines.append(f"Bold: better than the runner-up of its column ({method}).")
        else:
            lines.append(f"In no column is the best significantly better than the runner-up ({method}).")
    return lines


def _companions(records: Sequence[Record], pooled: set[str], table: Table) -> list[str]:
    """What varies along with the rows and columns, so that nobody takes them for the only difference."""
    own = {*table.rows, *table.cols, *pooled}
    if "total" in own:
        own |= {"batch", "workers"}
    rest = {key: v for key, v in _differing(records).items() if key not in own and _group(key) not in own}
    swapped = {_group(key) for key in rest if key.endswith(".name")}  # the name stands for the whole group
    shown = {
        key.removesuffix(".name"): values
        for key, values in rest.items()
        if key.endswith(".name") or _group(key) not in swapped
    }
    return [f"Rows and columns also differ in {_listing(shown)}."] if shown else []


def _provenance(records: Sequence[Record]) -> str:
    commits = _distinct(str(commit) for r in records if (commit := r.provenance.get("commit")))
    devices = _distinct(str(device) for r in records if (device := r.environment.get("device")))
    parts = [f"{len(records)} run{'s' * (len(records) > 1)} on {_distinct(_data(r) for r in records)}"]
    parts += [f"commit {commits}"] if commits else []
    parts += [f"device {devices}"] if devices else []
    return "; ".join(parts) + "."


def _data(record: Record) -> str:
    """The data set; a user's own by the name of its folder or archive."""
    data = record.spec["data"]
    return f"{data['name']} ({PurePath(data['path']).name})" if data.get("path") else str(data["name"])


def _differing(records: Sequence[Record]) -> dict[str, set[str]]:
    """The material spec keys in which the records differ, each with its values as text."""
    flat = [flatten(record.spec) for record in records]
    keys = {key for spec in flat for key in spec if not _IMMATERIAL.match(key)}
    values = {key: {label(spec.get(key)) for spec in flat} for key in sorted(keys)}
    return {key: found for key, found in values.items() if len(found) > 1}


def _group(key: str) -> str:
    return key.partition(".")[0]


def _listing(found: dict[str, set[str]]) -> str:
    return ", ".join(f"{key} ({', '.join(sorted(values, key=natural))})" for key, values in found.items())


def _distinct(texts: Iterable[str]) -> str:
    return ", ".join(sorted(set(texts)))
