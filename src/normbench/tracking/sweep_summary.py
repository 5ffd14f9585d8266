"""The summary of a sweep that trackers can show: a table with one row per cell and metric, and figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from normbench.record import Record

#: A number, a text, or None for a number that does not exist.
Value = float | int | str | None


@dataclass(frozen=True)
class SweepSummary:
    """A table in long form, PNG images by their name, and why figures could not be drawn."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    figures: Mapping[str, bytes] = field(default_factory=dict)
    undrawn: str = ""


#: Makes the summary from the records of a sweep and the fields in which they differ; None if there is none.
#: Trackers are given one, because they do not know how tables are computed.
Summarize = Callable[[Sequence[Record], Sequence[str]], SweepSummary | None]
