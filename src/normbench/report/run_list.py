"""The runs of a table, one line each: their keys, seed, status, value and signature."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from normbench.csv_rows import csv_row
from normbench.errors import unknown
from normbench.labels import label
from normbench.record import COMPLETE, Record
from normbench.report import escapes
from normbench.report.axes import JOINT, knobs_to_name, ordered, parts
from normbench.report.metrics import measured
from normbench.report.picking import check_select, pick
from normbench.report.render import FORMATS
from normbench.report.selection import value
from normbench.report.tables import chosen, conditions_of, keys_of
from normbench.visible import visible


@dataclass(frozen=True)
class RunList:
    """Columns, and one row of values per run. A value is a text, a number, or None if there is none."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]

    def texts(self) -> list[list[str]]:
        """The rows as they are read: a dash for what is missing, and no invisible characters."""
        return [[visible(label(value)) for value in row] for row in self.rows]


def list_runs(
    records: Sequence[Record],
    rows: str | Sequence[str],
    cols: str | Sequence[str],
    metric: str,
    where: str | Sequence[str] = (),
    *,
    select: str | Sequence[str] = (),
) -> RunList:
    """The runs that `build_table` would summarize, in the order of its rows, columns and seeds.

    With `select`, the keys that were picked have columns of their own.

    Raises:
        InputError: an unknown key or metric, or no run to show. Also what `picking.pick` raises.
    """
    row_keys, col_keys, select_keys = keys_of(rows), keys_of(cols), keys_of(select)
    check_select(select_keys, (*row_keys, *col_keys))
    keys = tuple(dict.fromkeys((*row_keys, *col_keys)))
    conditions = conditions_of(where)
    kept = chosen(records, (*keys, *select_keys), (metric,), conditions)
    knobs = knobs_to_name(kept, row_keys, col_keys, select_keys)
    place = {texts: i for i, texts in enumerate(ordered(kept, keys, conditions, knobs).parts.values())}
    if select_keys:
        kept, _ = pick(kept, lambda r: (JOINT.join(parts(r, keys, knobs)), metric), select_keys, metric)
    lines = [(place[parts(r, keys, knobs)], r.spec["seed"], r.signature, r) for r in kept]
    lines.sort(key=lambda line: line[:3])
    others = tuple(key for key in (*select_keys, "seed", "status") if key not in keys)
    return RunList(
        (*keys, *others, metric, "run"),
        tuple(
            (*parts(r, keys, knobs), *_others(r, others), _value(r, metric), r.signature) for *_, r in lines
        ),
    )


def render_runs(runs: RunList, format: str) -> str:
    """The list in one of FORMATS, ending in a line break.

    Raises:
        InputError: there is no such format.
    """
    if format == "csv":
        out = io.StringIO()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerows(map(csv_row, (runs.columns, *runs.rows)))
        return out.getvalue()
    if format == "json":
        rows = [dict(zip(runs.columns, row, strict=True)) for row in runs.rows]
        return json.dumps(rows, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
    if format == "md":
        cells = [[escapes.markdown(text) for text in row] for row in (runs.columns, *runs.texts())]
        cells.insert(1, ["---"] * len(runs.columns))
        return "".join(f"| {' | '.join(line)} |\n" for line in cells)
    if format == "latex":
        head, *body = (
            " & ".join(map(escapes.latex_first, row)) + r" \\" for row in (runs.columns, *runs.texts())
        )
        begin = f"\\begin{{tabular}}{{{'l' * len(runs.columns)}}}"
        lines = ["% needs \\usepackage{booktabs}", begin, r"\toprule", head, r"\midrule", *body]
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"
    raise unknown("format", format, FORMATS)


def _others(record: Record, keys: Sequence[str]) -> list[Any]:
    return [value(record, key) for key in keys]


def _value(record: Record, metric: str) -> float | None:
    return measured(record, metric) if record.status == COMPLETE else None
