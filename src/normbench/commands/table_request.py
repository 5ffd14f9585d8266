"""What a `reproduce` command asks for: a table, a scale, further words, and how claims are judged."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from normbench import papers
from normbench.commands.most_seeds import most_seeds
from normbench.config.compose import values_by_key
from normbench.errors import InputError
from normbench.papers import Extra, PaperReport, PaperTable, SeedPlan
from normbench.papers.description import Scale
from normbench.record import Record


@dataclass(frozen=True)
class TableRequest:
    """One table at one scale.

    extra:   what the user set on top of the table.
    most:    the most seeds of a cell, if seeds are added until claims are decided; else None.
    partial: judge claims although cells or runs are missing.
    """

    table: PaperTable
    scale: str
    extra: Extra = field(default_factory=dict)
    most: int | None = None
    partial: bool = False

    @classmethod
    def of(
        cls, table: PaperTable, words: Sequence[str], own: str | None, options: Namespace | None = None
    ) -> TableRequest:
        """The request of the words of a command line.

        Args:
            words:   scale=…, and words over the table's.
            own:     the user's configuration folder.
            options: those of `reproduce`; by default none is given.

        Raises:
            InputError: an unknown scale, or words that cannot be read.
        """
        extra = values_by_key([word for word in words if not word.startswith("arm=")], own)
        for word in words:
            if word.startswith("arm="):
                extra["arm"] = word.partition("=")[2].split(",")
        [scale, *others] = extra.pop("scale", [next(iter(table.scales))])
        if others:
            raise InputError(f"one scale at a time; got scale={','.join([scale, *others])}")
        table.scale(scale)
        if options is None:
            return cls(table, scale, extra)
        return cls(table, scale, extra, most_seeds(options.until_decided, options.max_seeds), options.partial)

    @property
    def chosen(self) -> Scale:
        return self.table.scale(self.scale)

    @property
    def options(self) -> list[str]:
        """The options of the command that repeats it."""
        stages = ["--until-decided", "--max-seeds", str(self.most)] if self.most else []
        return [*(["--partial"] if self.partial else []), *stages]

    def plan(self, absent: Mapping[str, str]) -> SeedPlan:
        """The looks at its claims.

        Args:
            absent: why a data set is not there, by its name.
        """
        return SeedPlan(papers.asked_seeds(self.chosen, self.extra, absent), self.most)

    def report(
        self,
        records: Sequence[Record],
        variant: str,
        absent: Mapping[str, str],
        plan: SeedPlan,
        impossible: Mapping[tuple[str, ...], str] | None = None,
    ) -> PaperReport:
        """Table and verdicts from the records of its runs."""
        return papers.report(
            self.table, self.scale, records, self.extra, variant, absent=absent, impossible=impossible,
            plan=plan, partial=self.partial, options=self.options,
        )  # fmt: skip
