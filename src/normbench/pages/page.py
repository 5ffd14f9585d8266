"""One table with all that its page shows, as a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from normbench.pages.names import safe
from normbench.papers import ClaimResult, PaperReport
from normbench.papers.drawings import Drawing
from normbench.papers.sentence import verdict
from normbench.record import Record
from normbench.report.axes import Knobs
from normbench.report.cells import Table


@dataclass(frozen=True)
class Page:
    """A table and its runs.

    name:    its file without the suffix; safe as a name.
    heading: one line; `lines` are those below it: citation and setting.
    verdict: one sentence.
    command: the command that repeats it.
    knobs:   those that the labels of the table name.
    """

    name: str
    heading: str
    scale: str
    question: str
    lines: tuple[str, ...]
    verdict: str
    command: str
    table: Table
    claims: tuple[ClaimResult, ...]
    records: tuple[Record, ...]
    drawings: tuple[Drawing, ...]
    knobs: Knobs = field(default_factory=dict)

    @property
    def state(self) -> str:
        """Of the asserted claims: refuted if one is, else undecided if one is, else supported; or empty."""
        outcomes = {claim.outcome for claim in self.claims if claim.asserted}
        return next((each for each in ("refuted", "undecided", "supported") if each in outcomes), "")


def of_report(report: PaperReport, drawings: Sequence[Drawing]) -> Page:
    """The page of a paper table, or of a table of one's own."""
    paper = report.paper
    setting = paper.scale(report.scale).setting
    lines = tuple(filter(None, [paper.citation, f"Scale {report.scale}: {setting}." if setting else ""]))
    return Page(
        safe(report.stem), paper.title, report.scale, paper.question, lines, verdict(report.claims),
        report.command, report.table, report.claims, report.records, tuple(drawings),
    )  # fmt: skip


def of_runs(
    heading: str, command: str, table: Table, records: Sequence[Record], drawings: Sequence[Drawing],
    knobs: Knobs,
) -> Page:  # fmt: skip
    """The page of runs that belong to no paper table."""
    return Page(
        "runs", heading, "", "", (), verdict(()), command, table, (), tuple(records), tuple(drawings), knobs
    )
