"""Runs: the runs of a sweep as one value, in its order."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from html import escape
from typing import TYPE_CHECKING, overload

from normbench.api.frames import Row, frame_of, history_rows, run_rows
from normbench.api.shown_table import ShownTable
from normbench.api.words import Words, conditions
from normbench.commands.asked_runs import AskedRuns
from normbench.commands.asked_table import TableWords, table_of
from normbench.commands.run_listing import listing
from normbench.commands.runs_at_hand import at_hand
from normbench.commands.runs_summary import counts
from normbench.record import FAILED, Record
from normbench.report.run_list import RunList
from normbench.report.selection import select
from normbench.report.tables import conditions_of
from normbench.store import Store

if TYPE_CHECKING:
    from pandas import DataFrame

#: Runs that are shown; of more, the number is said.
_SHOWN = 20


class Runs(Sequence[Record]):
    """The runs of a sweep or of a store.

    It is a sequence of `Record`: `runs[0].metrics["test_error"]`, `runs[0].value("norm.momentum")`. A slice
    is a Runs again.

    Attributes:
        missing: runs that were asked for and have no record, as records without metrics.
        skipped: runs that cannot exist and were left out, with the reason in `provenance["error"]`.
    """

    def __init__(self, asked: AskedRuns, store: Store) -> None:
        self._asked, self._store = asked, store

    @property
    def missing(self) -> tuple[Record, ...]:
        return tuple(self._asked.missing)

    @property
    def skipped(self) -> tuple[Record, ...]:
        return tuple(self._asked.skipped)

    @property
    def failed(self) -> tuple[Record, ...]:
        """The runs that broke, with the reason in `provenance["error"]`."""
        return tuple(record for record in self if record.status == FAILED)

    def __len__(self) -> int:
        return len(self._asked.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._asked.records)

    @overload
    def __getitem__(self, place: int) -> Record: ...
    @overload
    def __getitem__(self, place: slice) -> Runs: ...
    def __getitem__(self, place: int | slice) -> Record | Runs:
        if isinstance(place, slice):
            return Runs(replace(self._asked, records=self._asked.records[place]), self._store)
        return self._asked.records[place]

    def where(self, *where: str) -> Runs:
        """The runs that meet every condition: `key=value`, `key=a,b` or `key!=value`.

        Raises:
            InputError: an unknown key, or no run meets the conditions.
        """
        met = conditions_of(conditions(where))
        kept = AskedRuns(
            select(self._asked.records, met),
            [run for run in self._asked.missing if all(each.admits(run) for each in met)],
            [run for run in self._asked.skipped if all(each.admits(run) for each in met)],
        )
        return Runs(kept, self._store)

    def table(
        self,
        rows: str | Sequence[str] = "norm",
        cols: str | Sequence[str] = "batch",
        metric: str | Sequence[str] = "test_error",
        *,
        where: Words = (),
        select: str | Sequence[str] = (),
        reference: Words = (),
        baseline: str | None = None,
    ) -> ShownTable:
        """Means over seeds with their deviations, as `normbench table` with the same options.

        Args:
            rows, cols: dotted keys, as a list or as a text with commas.
            metric:     one or several.
            where:      conditions that runs must meet.
            select:     keys such as optim.lr whose best value by validation is picked in every cell.
            reference:  with metric mce, conditions that name the run that errors are divided by.
            baseline:   a row or column from which differences are shown.

        Raises:
            InputError: an unknown key or metric, or no run to show.
        """
        asked = TableWords(
            _commas(rows), _commas(cols), _commas(metric), conditions(where), _commas(select),
            conditions(reference), baseline,
        )  # fmt: skip
        return ShownTable.of(table_of(self._asked, asked, self._store))

    def to_frame(self, fields: str | Sequence[str] | None = None) -> DataFrame:
        """A pandas frame with one row per run, indexed by its signature.

        Columns are what the run is, its status, its metrics (fractions) and its times in seconds.

        Args:
            fields: dotted names of the settings to show; by default those in which runs differ and a few
                more; "all" for every one.

        Raises:
            InputError: pandas is not installed: pip install 'normbench[pandas]'.
        """
        return frame_of(run_rows(self._asked.records, fields), "run")

    def history(self, metrics: str | Sequence[str] | None = None) -> list[Row]:
        """The curves in long form: one dict per run, logged step and metric, with what varies and the seed.

        `pandas.DataFrame(runs.history())` is a frame.

        Args:
            metrics: names to keep, as a list or as a text with commas; by default all.
        """
        return history_rows(self._asked.records, self._store, metrics)

    def __repr__(self) -> str:
        """The first runs, one per line, as `normbench runs` lists them."""
        from rich.console import Console

        from normbench.report.terminal import run_lines

        out = io.StringIO()
        console = Console(file=out, width=160, highlight=False, color_system=None)
        if len(self):
            console.print(run_lines(self._listing(), console))
        text = "\n".join(line.rstrip() for line in out.getvalue().splitlines())
        return "\n".join(filter(None, [text, *self._below()]))

    def _repr_html_(self) -> str:
        """For notebooks."""
        shown = self._listing()
        head = "".join(f"<th>{escape(name)}</th>" for name in shown.columns)
        body = "".join(
            f"<tr>{''.join(f'<td>{escape(text)}</td>' for text in row)}</tr>" for row in shown.texts()
        )
        below = "".join(f"<p><small>{escape(line)}</small></p>" for line in self._below())
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{below}"

    def _listing(self) -> RunList:
        return listing([at_hand(self._store, record) for record in self._asked.records[:_SHOWN]])

    def _below(self) -> list[str]:
        every = [at_hand(self._store, record) for record in self._asked.records]
        more = len(every) - _SHOWN
        return [
            *([f"… and {more} more"] if more > 0 else []),
            counts(every) if every else "no runs",
            *([f"{len(self.missing)} more are missing"] if self.missing else []),
            *([f"{len(self.skipped)} cannot exist"] if self.skipped else []),
        ]


def _commas(keys: str | Sequence[str]) -> str:
    return keys if isinstance(keys, str) else ",".join(keys)
