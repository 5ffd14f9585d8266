"""The lines below a list of runs: how many of each status, bytes in all, what is absent."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence

from normbench.commands.runs_at_hand import RunAtHand
from normbench.phrases import counted, sized
from normbench.record import Record


def counts(runs: Sequence[RunAtHand]) -> str:
    """Number of runs, by status, and their bytes: `3 runs (2 complete, 1 failed), 310 KiB`."""
    by_status = Counter(run.record.status for run in runs)
    told = ", ".join(f"{count} {status}" for status, count in sorted(by_status.items()))
    return f"{counted(len(runs), 'run')} ({told}), {sized(sum(run.size for run in runs))}"


def closing_lines(runs: Sequence[RunAtHand], absent: Sequence[Record], words: Sequence[str]) -> list[str]:
    """The last lines of `normbench runs`."""
    lines = [counts(runs)] if runs else []
    if absent:
        asked = len(runs) + len(absent)
        command = shlex.join(["normbench", "train", *words])
        lines.append(f"{len(absent)} of {counted(asked, 'run')} are not here: {command}")
    return lines
