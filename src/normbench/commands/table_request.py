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

#: Far more seeds than any table has, and far from the largest seed of a run.
MAX_SEED_OFFSET = 10**9


@dataclass(frozen=True)
class TableRequest:
    """One table at one scale.

    extra:   what the user set on top of the table.
    offset:  the number that was added to the table's seeds.
    most:    the most seeds of a cell, if seeds are added until claims are decided; else None.
    partial: judge claims although cells or runs are missing.
    """

    table: PaperTable
    scale: str
    extra: Extra = field(default_factory=dict)
    offset: int = 0
    most: int | None = None
    partial: bool = False

    @classmethod
    def of(
        cls, table: PaperTable, words: Sequence[str], own: str | None, options: Namespace | None = None
    ) -> TableRequest:
        """The request of the words of a command line.

        Args:
            words:   scale=…, seed_offset=…, and words over the table's.
            own:     the user's configuration folder.
            options: those of `reproduce`; by default none is given.

        Raises:
            InputError: an unknown scale, an offset that is no whole number, or words that cannot be read.
        """
        extra = values_by_key([word for word in words if not word.startswith("arm=")], own)
        for word in words:
            if word.startswith("arm="):
                extra["arm"] = word.partition("=")[2].split(",")
        [scale, *others] = extra.pop("scale", [next(iter(table.scales))])
        if others:
            raise InputError(f"one scale at a time; got scale={','.join([scale, *others])}")
        table.scale(scale)
        if offset := _offset(extra):
            table = table.with_later_seeds(offset)
        if options is None:
            return cls(table, scale, extra, offset)
        most = most_seeds(options.until_decided, options.max_seeds)
        return cls(table, scale, extra, offset, most, options.partial)

    @property
    def chosen(self) -> Scale:
        return self.table.scale(self.scale)

    @property
    def options(self) -> list[str]:
        """What the command that repeats it has besides the words over the table's."""
        offset = [f"seed_offset={self.offset}"] if self.offset else []
        stages = ["--until-decided", "--max-seeds", str(self.most)] if self.most else []
        return [*offset, *(["--partial"] if self.partial else []), *stages]

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


def _offset(extra: dict[str, list[str]]) -> int:
    """Take the offset of the seeds out of the user's words; 0 if there is none."""
    written = ",".join(extra.pop("seed_offset", ["0"]))
    if not (written.isascii() and written.isdigit() and int(written) <= MAX_SEED_OFFSET):
        raise InputError(f"seed_offset is a whole number from 0 to {MAX_SEED_OFFSET}; got {written}")
    if int(written) and "seed" in extra:
        raise InputError("give seed or seed_offset, not both")
    return int(written)
