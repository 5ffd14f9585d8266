"""What the folder of a run holds along its steps: curves, and what diagnostics found by layer.

history.jsonl              the curve of the first training, one point per line
diagnostics.jsonl          its diagnostics by layer, one line per reading
curve-<every>.json         curves with more evaluations, from later trainings
curve-diagnostics-*.json   curves with further diagnostics, from later trainings
diagnostics-*.jsonl        what later trainings and readings of the final state found by layer
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from normbench.record import Addition, Metrics, Record, curve_point

T = TypeVar("T")

#: A reading by layer: {"step": …, "name": "diagnostic/quantity", "layers": {layer: value}}.
Row = dict[str, Any]
#: Told in one line about a file that cannot be read, or a part of it.
Note = Callable[[str], None]


def lines(trees: Iterable[Any]) -> str:
    """Plain containers as lines of JSON."""
    return "".join(json.dumps(tree, allow_nan=False) + "\n" for tree in trees)


def read_history(folder: Path, note: Note) -> tuple[Metrics, ...]:
    """The curve of a run, a point per logged step: that with most evaluations, with the diagnostics of all.

    Lines and files that cannot be read are left out and noted.
    """
    curves = [_parsed_lines(folder / "history.jsonl", curve_point, "point of a curve", note)]
    for file in sorted(folder.glob("curve-*.json")):
        try:
            points = json.loads(file.read_text(encoding="utf-8"))["points"]
            curves.append(tuple(map(curve_point, points)))
        except (OSError, ValueError, TypeError, LookupError, RecursionError) as error:
            note(f"{file}: {error}; it is left out")
    densest = max(curves, key=lambda curve: sum("test_error" in point for point in curve))
    others = [curve for curve in curves if curve is not densest]
    return _with_diagnostics(densest, others) if others else densest


def _with_diagnostics(curve: Sequence[Metrics], others: Sequence[Sequence[Metrics]]) -> tuple[Metrics, ...]:
    """A curve with the diagnostics of other curves of the same run, at its own steps and at further ones."""
    points = {point.get("step"): dict(point) for point in curve}
    for point in (point for other in others for point in other):
        further = {name: value for name, value in point.items() if "/" in name}
        if not further:
            continue
        place: Metrics = {
            name: point[name] for name in ("step", "images_seen", "epoch", "lr") if name in point
        }
        known = points.setdefault(point.get("step"), place)
        known |= {name: value for name, value in further.items() if name not in known}
    return tuple(points[step] for step in sorted(points, key=lambda step: step or 0))


def has_curve(folder: Path, record: Record, every: int) -> bool:
    """Whether the run has a curve with an evaluation every so many steps."""
    known = [int(f.stem[6:]) for f in folder.glob("curve-*.json") if f.stem[6:].isdigit()]
    first = (record.spec.get("eval") or {}).get("every")
    return any(every % each == 0 for each in (first, *known) if each)


def read_diagnostics(folder: Path, note: Note) -> tuple[Row, ...]:
    """What diagnostics found by layer, one entry per step and name, in the order of the steps."""
    found: dict[tuple[Any, Any], Row] = {}
    for file in (folder / "diagnostics.jsonl", *sorted(folder.glob("diagnostics-*.jsonl"))):
        for row in _parsed_lines(file, _row, "reading of a diagnostic", note):
            found.setdefault((row["step"], row["name"]), row)
    return tuple(sorted(found.values(), key=lambda row: row["step"]))


def of_first_training(folder: Path, note: Note) -> dict[str, Any]:
    """The fields `history` and `diagnostics` of a record, as its own training wrote them."""
    return {
        "history": _parsed_lines(folder / "history.jsonl", curve_point, "point of a curve", note),
        "diagnostics": _parsed_lines(folder / "diagnostics.jsonl", _row, "reading of a diagnostic", note),
    }


def of_addition(folder: Path, addition: Addition, rows: Sequence[Row] = ()) -> dict[str, str]:
    """The files, by name, that keep an addition, and what diagnostics found by layer with it.

    Empty if the addition is empty, or if one with the same names is there.
    """
    names = sorted({*addition.metrics, *addition.tables})
    name = f"evaluation-{digest(names)}.json"
    if not names or (folder / name).exists():
        return {}
    return diagnostics_file(rows, list(addition.metrics)) | {name: addition.to_json()}


def of_later_training(folder: Path, known: Record, record: Record) -> dict[str, str]:
    """The files, by name, that keep what a further training of a known run has and the run lacks: metrics,
    a denser curve, and diagnostics.
    """
    provenance = {**record.provenance, "trained_again": True}
    new = {name: value for name, value in record.metrics.items() if name not in known.metrics}
    tables = {name: value for name, value in record.tables.items() if name not in known.tables}
    addition = Addition(record.signature, new, record.environment, provenance, tables=tables)
    every = (record.spec.get("eval") or {}).get("every")
    asked = record.spec.get("diagnostics") or []
    curve = {
        "signature": record.signature, "every": every, "environment": record.environment,
        "provenance": provenance, "points": record.history,
    }  # fmt: skip
    files: dict[str, str] = {}
    if every is not None and not has_curve(folder, known, every):
        files[f"curve-{every}.json"] = json.dumps(curve, allow_nan=False) + "\n"
    if asked:
        files[f"curve-diagnostics-{digest(asked)}.json"] = json.dumps(curve, allow_nan=False) + "\n"
        files |= diagnostics_file(record.diagnostics, asked)
    files = {name: text for name, text in files.items() if not (folder / name).exists()}
    return of_addition(folder, addition) | files


def diagnostics_file(rows: Sequence[Row], asked: Sequence[str]) -> dict[str, str]:
    """The file, by name, that keeps what was found by layer after the first training; none without rows."""
    return {f"diagnostics-{digest(asked)}.jsonl": lines(rows)} if rows else {}


def digest(names: Iterable[str]) -> str:
    """Eight hex digits that tell sets of names apart."""
    return hashlib.sha256(" ".join(sorted(names)).encode()).hexdigest()[:8]


def _row(tree: Any) -> Row:
    if (
        not isinstance(tree, dict)
        or not isinstance(tree.get("step"), int)
        or not isinstance(tree.get("name"), str)
        or not isinstance(tree.get("layers"), dict)
    ):
        raise ValueError("it is no reading")
    return tree


def _parsed_lines(file: Path, parse: Callable[[Any], T], kind: str, note: Note) -> tuple[T, ...]:
    found = []
    try:
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            try:
                found.append(parse(json.loads(line)))
            except (ValueError, RecursionError):
                note(f"{file}: line {number} is not a {kind}; it is left out")
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        what = "the curve" if kind.endswith("curve") else "it"
        note(f"{file}: {error}; {what} is left out")
    return tuple(found)
