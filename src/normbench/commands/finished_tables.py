"""The tables that have finished runs in a store, judged as `reproduce` judged them last.

`reproduce` leaves a JSON file per table in `tables/` of the results folder. It names the command and the
runs. The runs of other tables are composed, if the store has runs of their data, models and norms. Nothing is
trained.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from normbench import papers
from normbench.commands.table_request import TableRequest
from normbench.commands.table_runs import TableRuns
from normbench.errors import InputError
from normbench.labels import field, label
from normbench.papers import PaperReport
from normbench.papers.places import text_of
from normbench.record import Record

#: Errors from a file that is damaged or was not written by this version.
_UNREADABLE = (OSError, ValueError, TypeError, LookupError, RecursionError)
#: Keys by which the runs of a grid are told from other runs before anything is composed.
_TOLD_BY = ("data", "model", "norm", "batch", "epochs", "steps", "optim", "optim.lr", "seed")
_text = cache(text_of)  # PERF: it parses YAML, and every run asks for every word


class FinishedTables:
    """The reports of all tables with finished runs.

    reports: sorted by the names of their files.
    skipped: files and tables that could not be used, one line each.

    Args:
        root:    the results folder.
        records: of all its runs.
        own:     the user's configuration folder.
    """

    def __init__(self, root: Path, records: Sequence[Record], own: str | None) -> None:
        self._own = own
        self._records = {record.signature: record for record in records}
        self.skipped: list[str] = []
        found = {report.stem: report for report in self._reproduced(root / "tables")}
        for report in self._others(found):
            found[report.stem] = report
        self.reports = [found[stem] for stem in sorted(found)]

    def _reproduced(self, folder: Path) -> Iterable[PaperReport]:
        for file in sorted(folder.rglob("*.json")):
            try:
                tree = json.loads(file.read_text(encoding="utf-8"))
                if isinstance(tree, dict) and {"paper", "command", "runs"} <= tree.keys():
                    report = self._again(tree)
                else:
                    continue  # of an earlier version
            except InputError as error:
                self.skipped.append(f"{file}: {error}; it is left out")
                continue
            except _UNREADABLE as error:
                self.skipped.append(f"{file} is not a table of reproduce: {error}; it is left out")
                continue
            if report.records:
                yield report

    def _again(self, tree: Mapping[str, Any]) -> PaperReport:
        """The report of a reproduction from its JSON file, with the same looks at the claims."""
        from normbench.commands.reproduce import parser

        _, _, *argv = shlex.split(tree["command"])
        args = parser().parse_intermixed_args(argv)
        asked = TableRequest.of(papers.load(args.name, self._own), args.words, self._own, args)
        absent = {str(name): str(reason) for name, reason in tree.get("absent", {}).items()}
        if "arms" in tree:
            records = [
                record
                for arm, signatures in tree["arms"].items()
                for record in papers.labelled(self._known(signatures), arm)
            ]
        else:
            records = self._known(tree["runs"])
        impossible = {tuple(map(str, cell)): str(reason) for cell, reason in tree.get("impossible", [])}
        plan, variant = asked.plan(absent), str(tree["variant"])
        report = asked.report(records, variant, absent, plan, impossible)
        while papers.next_look(report, plan):  # its runs are there: reproduce ended after the last look
            report = asked.report(records, variant, absent, plan, impossible)
        return report

    def _known(self, signatures: Iterable[str]) -> list[Record]:
        return [self._records[each] for each in signatures if each in self._records]

    def _others(self, found: Mapping[str, PaperReport]) -> Iterable[PaperReport]:
        """The tables that have runs and no file of `reproduce`."""
        for name in papers.names(self._own):
            try:
                table = papers.load(name, self._own)
            except InputError as error:
                self.skipped.append(f"{error}; it is left out")
                continue
            for scale in table.scales:
                asked = TableRequest(table, scale)
                if f"{name}.{scale}" in found or not self._may_have_runs(asked):
                    continue
                try:
                    runs = TableRuns(table, scale, {}, self._own)
                    records = [r for r in runs.found() if r.signature in self._records]
                except InputError as error:
                    self.skipped.append(f"{name} at scale {scale}: {error}; it is left out")
                    continue
                if records:
                    plan = asked.plan(runs.absent)
                    yield asked.report(records, "", runs.absent, plan, runs.impossible())

    def _may_have_runs(self, asked: TableRequest) -> bool:
        """Whether some run agrees with a grid in the keys that tell runs apart."""
        chosen = papers.grids(asked.chosen)
        return any(told(record.spec, grid) for grid in chosen for record in self._records.values())


def told(spec: Mapping[str, Any], grid: Mapping[str, Sequence[str]]) -> bool:
    """Whether a run agrees with the words of a grid in the keys of _TOLD_BY.

    A run that has a number of steps has no epochs, so a grid with both is told by its steps.

    Args:
        spec: as a record has it.
    """
    keys = [key for key in _TOLD_BY if key in grid and (key != "epochs" or "steps" not in grid)]
    return all(label(field(spec, key)) in map(_text, grid[key]) for key in keys)
