"""A paper table with our numbers beside the published ones and a verdict on every claim, as files."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from normbench.errors import RunFailure
from normbench.files import write_atomically
from normbench.papers.claims import ClaimResult, check_claims
from normbench.papers.description import PaperTable
from normbench.papers.grids import Extra, grids
from normbench.papers.layout import arrange
from normbench.papers.looks import SeedPlan, asked_seeds
from normbench.papers.lost_runs import with_lost_runs
from normbench.papers.measurements import Measurements
from normbench.papers.places import ARM, cells
from normbench.record import Record
from normbench.report.axes import METRIC
from normbench.report.cells import Table
from normbench.report.escapes import prose
from normbench.report.render import comma_separated, latex, markdown
from normbench.report.sensitivity import sensitivity
from normbench.report.stats import LEVEL
from normbench.visible import visible


@dataclass(frozen=True)
class PaperReport:
    """What a reproduction gave.

    command:     the command that repeats it.
    environment: those of its runs, merged.
    variant:     empty for the table as the paper has it, else what tells its files from that table's.
    records:     its runs; with arms, once per arm.
    absent:      why a data set is not there, by its name.
    impossible:  why a cell can have no runs, by its texts in the order of the scale's keys.
    """

    paper: PaperTable
    scale: str
    command: str
    table: Table
    claims: tuple[ClaimResult, ...]
    environment: dict[str, Any]
    variant: str = ""
    records: tuple[Record, ...] = ()
    absent: Mapping[str, str] = field(default_factory=dict)
    impossible: Mapping[tuple[str, ...], str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The containers of `reproduce --json`: those of the table, then claims, scale and environment.

        `command`, `variant`, `runs`, `arms`, `absent` and `impossible` are what `normbench report` needs to
        judge it again.
        """
        arms: dict[str, list[str]] = {}
        for record in self.records:
            if ARM in record.spec:
                arms.setdefault(record.spec[ARM], []).append(record.signature)
        return {
            **self.table.to_json(),
            "claims": [claim.to_json() for claim in self.claims],
            "scale": self.scale,
            "environment": self.environment,
            "paper": self.paper.name,
            "command": self.command,
            "variant": self.variant,
            "runs": sorted({record.signature for record in self.records}),
            **({"arms": arms} if arms else {}),
            **({"absent": dict(self.absent)} if self.absent else {}),
            **(
                {"impossible": [[[*cell], why] for cell, why in self.impossible.items()]}
                if self.impossible
                else {}
            ),
        }

    @property
    def stem(self) -> str:
        """The path of its files below their folder, without the suffix."""
        return ".".join(part for part in (self.paper.name, self.scale, self.variant) if part)

    def outcomes(self) -> str:
        """Number of claims by verdict, such as `4 supported, 1 report`."""
        counts = Counter(claim.to_json()["verdict"] for claim in self.claims)
        return ", ".join(f"{count} {verdict}" for verdict, count in counts.items())

    def heading(self) -> list[str]:
        """Title, source and setting, a line each without invisible characters."""
        setting = self.paper.scale(self.scale).setting
        said = f"Scale {self.scale}: {setting}." if setting else f"Scale {self.scale}."
        texts = [self.paper.title, *filter(None, [self.paper.citation, self.paper.question]), said]
        return [visible(" ".join(text.split())) for text in texts]

    def markdown(self) -> str:
        """The table between its setting and its claims, as a page of its own."""
        title, *lines = map(prose, self.heading())
        claims = [f"- {prose(claim.line())}" for claim in self.claims]
        command = visible(self.command).replace("-->", "--&gt;")
        head = [f"<!-- made by: {command} -->", f"# {title}", *lines]
        below = ["## Claims", "\n".join(claims)] if claims else []
        return "\n\n".join([*head, markdown(self.table).rstrip(), *below]) + "\n"


def report(
    paper: PaperTable,
    scale: str,
    records: Sequence[Record],
    extra: Extra | None = None,
    variant: str = "",
    *,
    absent: Mapping[str, str] | None = None,
    impossible: Mapping[tuple[str, ...], str] | None = None,
    plan: SeedPlan | None = None,
    partial: bool = False,
    options: Sequence[str] = (),
) -> PaperReport:
    """Arrange the records of a reproduction as its table and judge its claims.

    Args:
        records: those of the runs that `papers.overrides` names for this scale and extra, if there are any;
            with arms, as `papers.labelled` makes them.
        extra:   the values that the user set.
        variant: as `papers.variant` gives it.
        absent:  why a data set is not there, by its name.
        impossible: why a cell can have no runs, by its texts in the order of the scale's keys.
        plan:    the seeds of every look; by default one look at the seeds of the grids.
        partial: judge claims although some of their cells or runs are missing.
        options: words of the command that repeats it.

    Raises:
        InputError: the table has no such scale.
    """
    chosen = paper.scale(scale)
    missing, excluded = absent or {}, impossible or {}
    rows, cols = ([key for key in keys if key != METRIC] for keys in (chosen.rows, chosen.cols))
    seeds = plan or SeedPlan(asked_seeds(chosen, extra, missing))
    table = arrange(paper, scale, records, extra, missing)
    table = with_lost_runs(table, chosen, records, seeds.asked[-1], excluded)
    runs = Measurements(records, rows, cols, paper.metrics_at(scale)[0], seeds.asked[-1], partial=partial)
    shown = cells(grids(chosen, extra, missing), chosen.keys)
    claims = check_claims(
        chosen.claims, runs, chosen.places, shown=shown, absent=missing, stages=seeds.asked,
        looks=seeds.looks, partial=partial,
    )  # fmt: skip
    level = LEVEL / 2 / seeds.looks / max(1, sum(claim.asserted for claim in claims))
    table = replace(table, notes=(*table.notes, *seeds.notes(), *sensitivity(table, level)))
    words = [f"{key}={','.join(map(str, values))}" for key, values in (extra or {}).items()]
    command = shlex.join(["normbench", "reproduce", paper.given_as, f"scale={scale}", *words, *options])
    return PaperReport(
        paper,
        scale,
        command,
        table,
        claims,
        _environment(records),
        variant,
        tuple(records),
        missing,
        excluded,
    )


def next_look(report: PaperReport, plan: SeedPlan) -> dict[tuple[str, ...], list[int]]:
    """The further seeds of the cells of undecided claims; empty if nothing is left to decide or to spend."""
    if plan.ended:
        return {}
    undecided = [claim for claim in report.claims if claim.open_to_seeds]
    keys = report.paper.scale(report.scale).keys
    cells = {tuple(texts[key] for key in keys): None for claim in undecided for texts in claim.cells}
    return plan.extend(list(cells)) if cells else {}


def variant(own: Iterable[str], asked: Iterable[str]) -> str:
    """Empty if the runs asked for are those of the paper's table, whatever their seeds.

    Else eight hex digits, which stand in the names of its files: `<table>.<scale>.<variant>.<suffix>`.

    Args:
        own:   the groups of the table's runs: their identity without the seed (`RunSpec.group`).
        asked: the groups of the runs that the user asked for.
    """
    if set(own) == (groups := set(asked)):
        return ""
    return hashlib.sha256(" ".join(sorted(groups)).encode()).hexdigest()[:8]


def write(report: PaperReport, folder: Path, figures: Mapping[str, bytes] | None = None) -> list[Path]:
    """Write the report as md, csv, tex and json into `folder`/<citekey>; return the files.

    Args:
        figures: SVG files by name, as `drawings` makes them; they become `<table>.<scale>.<name>.svg`.

    Raises:
        RunFailure: they cannot be written.
    """
    texts: dict[str, str | bytes] = {
        "md": report.markdown(),
        "csv": comma_separated(report.table),
        "tex": f"% made by: {visible(report.command)}\n{latex(report.table)}",
        "json": json.dumps(report.to_json(), indent=2, allow_nan=False, ensure_ascii=False) + "\n",
    }
    texts |= {f"{name}.svg": svg for name, svg in (figures or {}).items()}
    files = {folder / f"{report.stem}.{suffix}": text for suffix, text in texts.items()}
    write_files(files)
    return list(files)


def write_files(files: Mapping[Path, str | bytes]) -> None:
    """Write files of a table, with their folders.

    Raises:
        RunFailure: one cannot be written.
    """
    for path, text in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, text)
        except OSError as error:
            raise RunFailure(
                f"the table cannot be written to {path.parent}: {error.strerror or error}; free space there "
                "or give another folder with NORMBENCH_RESULTS; the runs are kept"
            ) from error


def _environment(records: Sequence[Record]) -> dict[str, Any]:
    """The environments of the runs as one: a value if all agree, else the list of those that occur."""
    merged: dict[str, Any] = {"runs": len(records)}
    given = [{"commit": record.provenance.get("commit"), **record.environment} for record in records]
    for key in sorted({key for environment in given for key in environment}):
        texts = sorted({json.dumps(environment.get(key), sort_keys=True) for environment in given})
        values = [json.loads(text) for text in texts]
        merged[key] = values[0] if len(values) == 1 else values
    return merged
