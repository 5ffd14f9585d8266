"""What `normbench merge` and `normbench migrate` print: counts, and the runs to name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence

from normbench.merging.join import ADDED, ASIDE, BUSY, CONFLICT, FILLED, KNOWN, NEW, STARTED, Joined
from normbench.merging.stores import Merged
from normbench.phrases import counted

#: Kind → what is said after the number of runs.
_KINDS = {
    NEW: "new", FILLED: "with a result in place of a failure", ADDED: "with more results", STARTED: "partial",
    CONFLICT: "in conflict", ASIDE: "in conflict as before", BUSY: "left out: being trained", KNOWN: "known",
}  # fmt: skip
_FILES = {"addition": "added file", "weights": "final state", "checkpoint": "checkpoint"}
#: Conflicts of one folder that are listed; of more, the number is said.
_LISTED = 20


def lines(merged: Merged) -> Iterator[str]:
    """The lines about one source."""
    yield f"{merged.root}: {counts(merged.kinds)}"
    yield from named(merged.told)


def named(told: Sequence[Joined]) -> Iterator[str]:
    """The runs in conflict, each with the difference and the place, and those that are being trained."""
    for joined in told[:_LISTED]:
        place = f"; kept in {joined.place}" if joined.kind in (CONFLICT, ASIDE) else "; merge again later"
        yield f"  {joined.signature}: {joined.note}{place}"
    if len(told) > _LISTED:
        yield f"  … and {counted(len(told) - _LISTED, 'more run')}"


def counts(kinds: Mapping[str, int]) -> str:
    """The number of runs by kind: `5 runs: 3 new, 2 known`."""
    parts = [f"{kinds[kind]:,} {text}" for kind, text in _KINDS.items() if kinds.get(kind)]
    return f"{counted(sum(kinds.values()), 'run')}: {', '.join(parts)}" if parts else "no runs"


def total(merged: Iterable[Merged], impossible: int) -> list[str]:
    """The last lines: runs and files of all sources.

    Args:
        impossible: number of copied notes on impossible runs.
    """
    kinds, files = Counter[str](), Counter[str]()
    for each in merged:
        kinds += each.kinds
        files += each.files
    parts = [counted(files[kind], noun) for kind, noun in _FILES.items() if files[kind]]
    if impossible:
        parts.append(counted(impossible, "note on an impossible run").replace("runs", "run"))
    return [f"in all {counts(kinds)}", *([f"files: {', '.join(parts)}"] if parts else [])]


def dry(found: Iterable[str], dry_run: bool) -> Iterator[str]:
    """The lines as they are; in a dry run the last one says that nothing was written."""
    yield from found
    if dry_run:
        yield "dry run: nothing was written"
