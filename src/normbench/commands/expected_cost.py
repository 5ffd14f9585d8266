"""What tables cost, in one line each, from the numbers that their files have."""

from __future__ import annotations

from collections.abc import Sequence

from normbench.papers.description import PaperTable, Scale
from normbench.phrases import counted


def of_table(scale: Scale, runs: int, *, as_in_file: bool) -> str:
    """The cost of one table.

    Args:
        runs:       number of runs asked for.
        as_in_file: the words change nothing but seeds. Otherwise the minutes of the file say nothing.
    """
    expects = scale.expects
    if expects is None or expects.minutes is None:
        return f"{counted(runs, 'run')}; how long they take has not been measured"
    if not as_in_file or expects.runs != runs:
        return counted(runs, "run")
    hardware = expects.hardware or "one machine"
    return f"{counted(runs, 'run')}; all of them took {expects.minutes:g} minutes on {hardware}"


def of_all(tables: Sequence[PaperTable], scale: str) -> str:
    """The cost of several tables at a scale: the sum of the minutes that were measured, and what was not."""
    known = {table.name: expects for table in tables if (expects := table.scale(scale).expects) is not None}
    measured = {name: expects for name, expects in known.items() if expects.minutes is not None}
    parts = [counted(len(tables), "table")]
    if len(known) == len(tables):
        parts[0] += f", {counted(sum(expects.runs for expects in known.values()), 'run')}"
    if measured:
        minutes = sum(expects.minutes or 0.0 for expects in measured.values())
        hardware = dict.fromkeys(expects.hardware or "one machine" for expects in measured.values())
        which = "all of them" if len(measured) == len(tables) else f"{len(measured)} of them"
        parts.append(f"{which} took {minutes:.1f} minutes together on {' or '.join(hardware)}")
    if others := [table.name for table in tables if table.name not in measured]:
        parts.append(f"not measured: {', '.join(others)}")
    return "; ".join(parts)
