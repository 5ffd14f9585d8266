"""A paper table with our numbers beside the published ones and a verdict on every claim, as files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from normbench.errors import RunFailure
from normbench.files import write_atomically
from normbench.papers.claims import ClaimResult, check_claims
from normbench.papers.description import PaperTable, Scale
from normbench.papers.grids import Extra, grids
from normbench.record import Record
from normbench.report.cells import Table
from normbench.report.render import comma_separated, latex, markdown
from normbench.report.selection import JOINT, agrees, label
from normbench.report.tables import build_table


@dataclass(frozen=True)
class PaperReport:
    """What a reproduction gave. `command` repeats it, `environment` merges those of its runs."""

    paper: PaperTable
    scale: str
    command: str
    table: Table
    claims: tuple[ClaimResult, ...]
    environment: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """The containers of `reproduce --json`: those of the table, then claims, scale and environment."""
        return {
            **self.table.to_json(),
            "claims": [claim.to_json() for claim in self.claims],
            "scale": self.scale,
            "environment": self.environment,
            "paper": self.paper.name,
        }

    def heading(self) -> list[str]:
        """Title, source and setting, a line each."""
        setting = self.paper.scale(self.scale).setting
        return [self.paper.title, self.paper.citation, f"Scale {self.scale}: {setting}."]

    def markdown(self) -> str:
        """The table between its setting and its claims, as a page of its own."""
        title, *lines = self.heading()
        claims = [f"- {claim.line()}" for claim in self.claims]
        head = [f"<!-- made by: {self.command} -->", f"# {title}", *lines]
        return "\n\n".join([*head, markdown(self.table).rstrip(), "## Claims", "\n".join(claims)]) + "\n"


def report(
    paper: PaperTable, scale: str, records: Sequence[Record], extra: Extra | None = None
) -> PaperReport:
    """Arrange the records of a reproduction as its table and judge its claims.

    Args:
        records: those of the runs that `papers.overrides` names for this scale and extra, if there are any.

    Raises:
        InputError: the table has no such scale.
    """
    chosen = paper.scale(scale)
    axes = _axes(chosen, extra)
    published, sources = _published(paper, chosen, list(product(*axes)))
    table = build_table(records, chosen.rows, chosen.cols, paper.metric, published=published, axes=axes)
    table = replace(table, notes=(*table.notes, *sources))
    words = [f"{key}={','.join(map(str, values))}" for key, values in (extra or {}).items()]
    command = " ".join(["normbench reproduce", paper.name, f"scale={scale}", *words])
    claims = check_claims(chosen.claims, table)
    return PaperReport(paper, scale, command, table, claims, _environment(records))


def write(made: PaperReport, root: Path) -> list[Path]:
    """Write the report as md, csv, tex and json under `root`/tables; return the files.

    Raises:
        RunFailure: they cannot be written.
    """
    texts = {
        "md": made.markdown(),
        "csv": comma_separated(made.table),
        "tex": f"% made by: {made.command}\n{latex(made.table)}",
        "json": json.dumps(made.to_json(), indent=2, allow_nan=False, ensure_ascii=False) + "\n",
    }
    stem = root / "tables" / made.paper.name
    paths = [stem.with_name(f"{stem.name}.{made.scale}.{suffix}") for suffix in texts]
    try:
        stem.parent.mkdir(parents=True, exist_ok=True)
        for path, text in zip(paths, texts.values(), strict=True):
            write_atomically(path, text)
    except OSError as error:
        raise RunFailure(
            f"the table cannot be written to {stem.parent}: {error.strerror or error}; free space there "
            "or give another folder with NORMBENCH_RESULTS; the runs are kept"
        ) from error
    return paths


def _axes(scale: Scale, extra: Extra | None) -> tuple[list[str], list[str]]:
    """The rows and columns that the grids span, in the order of the file."""
    rows: dict[str, None] = {}
    cols: dict[str, None] = {}
    for grid in grids(scale, extra):
        for labels, keys in ((rows, scale.rows), (cols, scale.cols)):
            values = ([label(yaml.safe_load(word)) for word in grid[key]] for key in keys)
            labels.update(dict.fromkeys(JOINT.join(combination) for combination in product(*values)))
    return list(rows), list(cols)


def _published(
    paper: PaperTable, scale: Scale, places: Sequence[tuple[str, str]]
) -> tuple[dict[tuple[str, str], float], list[str]]:
    """The published numbers that belong beside cells, and a line on each source of one."""
    numbers: dict[tuple[str, str], float] = {}
    sources: dict[str, None] = {}
    known = {source.id: source for source in paper.published}
    for beside in scale.published:
        source = known[beside.id]
        how = "as printed" if source.read == "text" else "read by eye off the figure"
        for where, number in source.numbers():
            for place in places:
                if agrees((*scale.rows, *scale.cols), place, {**beside.where, **where}):
                    numbers[place] = number
                    sources[f"Published: {source.source} ({source.setting}), {how}."] = None
    return numbers, list(sources)


def _environment(records: Sequence[Record]) -> dict[str, Any]:
    """The environments of the runs as one: a value where all agree, else the list of those that occur."""
    merged: dict[str, Any] = {"runs": len(records)}
    given = [{"commit": record.provenance.get("commit"), **record.environment} for record in records]
    for key in sorted({key for environment in given for key in environment}):
        texts = sorted({json.dumps(environment.get(key), sort_keys=True) for environment in given})
        values = [json.loads(text) for text in texts]
        merged[key] = values[0] if len(values) == 1 else values
    return merged
