"""Training the runs of a paper table: its grids, what is absent, and further seeds of single cells."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from normbench import papers
from normbench.commands.tags import tagged
from normbench.commands.training import Training
from normbench.config.compose import compose
from normbench.config.resolve import resolve
from normbench.config.sweep import SKIP, resolve_sweep
from normbench.data.presence import missing
from normbench.errors import InputError
from normbench.papers import Extra, PaperTable
from normbench.papers.asked_metrics import check_asked
from normbench.papers.places import ARM
from normbench.record import Record
from normbench.report.axes import parts
from normbench.spec import RunSpec

#: The name of an arm, "" without arms, and the sweep words of its runs.
Arm = tuple[str, Sequence[str]]


class TableRuns:
    """The runs of one table at one scale.

    absent: why a data set is not there, by its name. Its runs are left out.

    Args:
        extra: what the user set on top of the table.
        own:   the user's configuration folder.

    Raises:
        InputError: a word that does not compose, or a metric that no run of the table will have.
    """

    def __init__(self, table: PaperTable, scale: str, extra: Extra, own: str | None) -> None:
        self.table, self.scale, self.extra = table, scale, extra
        self._own, self._training = own, Training(draw=self._draw)
        self._arms: dict[str, set[str]] = {}
        self.absent: dict[str, str] = {}
        self.absent = self._absent()
        self.configs = self._composed(self._grids())
        self._check_metrics()
        self.store = self._training.store

    @property
    def records(self) -> list[Record]:
        """The records of all runs so far, each once; with arms, once per arm."""
        return self._in_arms(self._training.records)

    def found(self) -> list[Record]:
        """The records that the store has of the runs, as `records` gives them. Trains nothing."""
        signatures = dict.fromkeys(run.spec.signature for run in resolve_sweep(self.configs).runs)
        return self._in_arms([r for signature in signatures if (r := self.store.get(signature)) is not None])

    def _check_metrics(self) -> None:
        specs: dict[str, RunSpec] = {}
        for config in self.configs:
            asked = json.dumps([config.get("eval"), config.get("diagnostics")], default=str)
            if asked not in specs:
                with suppress(InputError):  # an impossible run; training says why
                    specs[asked] = resolve(config).spec
        check_asked(self.table, self.scale, list(specs.values()))

    def impossible(self) -> dict[tuple[str, ...], str]:
        """Why cells can have no runs, if `invalid=skip` left theirs out; of tables without arms."""
        keys = self.table.scale(self.scale).keys
        if ARM in keys or all(config.get("invalid") != SKIP for config in self.configs):
            return {}
        skipped = [*resolve_sweep(self.configs).skipped, *self._training.skipped]
        fields = ((Record("", dict(run.fields), "", {}, {}, {}, {}), run.reason) for run in skipped)
        return {parts(record, keys): reason for record, reason in fields}

    def _draw(self, records: Sequence[Record]) -> dict[str, bytes]:
        """The figures of the table as PNG files by name, from the runs so far and those of a sweep.

        Raises:
            InputError: none can be drawn.
        """
        from normbench.papers.drawings import declared, drawings
        from normbench.papers.drawn_runs import Drawable

        runs = self._in_arms([*self._training.records, *records])
        report = papers.report(self.table, self.scale, runs, self.extra, absent=self.absent)
        drawn = drawings(declared(report), Drawable(report.table, runs, self.store.history), "png")
        files = {each.name: each.file for each in drawn if each.file is not None}
        if drawn and not files:
            raise InputError("; ".join(f"{each.name}: {each.fault}" for each in drawn))
        return files

    def _in_arms(self, records: Sequence[Record]) -> list[Record]:
        distinct = list({record.signature: record for record in records}.values())
        if ARM not in self.table.scale(self.scale).keys:
            return distinct
        return [
            record
            for arm, signatures in self._arms.items()
            for record in papers.labelled([r for r in distinct if r.signature in signatures], arm)
        ]

    def train(self) -> None:
        """Get or train the runs of the grids."""
        self._training.many(self.configs)

    def train_further(self, seeds: Mapping[tuple[str, ...], Sequence[int]]) -> None:
        """Get or train further seeds of some cells."""
        arms = [
            arm
            for cell, each in seeds.items()
            for arm in papers.cell_sweeps(self.table, self.scale, cell, each, self.extra, self.absent)
        ]
        self._training.many(self._composed(arms))

    def _grids(self) -> list[Arm]:
        found = papers.grids(self.table.scale(self.scale), self.extra, self.absent)
        return [("".join(grid.get(ARM, ())), papers.words_of(grid)) for grid in found]

    def _composed(self, arms: Sequence[Arm]) -> list[dict[str, Any]]:
        """The configurations of some arms; notes which runs belong to which arm."""
        configs = []
        for arm, words in arms:
            made = [tagged(config, self.table.name, self.scale) for config in compose(words, self._own)]
            configs += made
            for config in made if arm else ():
                with suppress(InputError):  # resolving it again refuses or skips an impossible run
                    self._arms.setdefault(arm, set()).add(resolve(config).spec.signature)
        return configs

    def _absent(self) -> dict[str, str]:
        """Data sets that the scale can do without and that are not there; none if all of its data are absent.

        Then training downloads them, or says what is missing.
        """
        needs = self.table.scale(self.scale).needs
        if not needs or "data.download" in self.extra:
            return {}
        found = {}
        for _, words in self._grids():
            [names] = [word.partition("=")[2].split(",") for word in words if word.startswith("data=")] or [
                []
            ]
            for name in set(names) & set(needs):
                one = [f"data={name}", *(word for word in words if word.startswith("data."))]
                if reason := missing(compose(one, self._own)[0]["data"]):
                    found[name] = reason
        return found if papers.sweeps(self.table, self.scale, self.extra, found) else {}
