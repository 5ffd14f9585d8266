"""Merge whole stores: every run of other results folders, and the runs that are known to be impossible."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from normbench.errors import InputError
from normbench.files import write_atomically
from normbench.merging.join import CONFLICTS, Joined, Joiner
from normbench.merging.run_files import CHECKPOINT, RECORD, WEIGHTS
from normbench.run_folder import writing
from normbench.skipped_runs import SKIPPED
from normbench.store import Store


@dataclass
class Merged:
    """What became of the runs of one source.

    Attributes:
        root:    the results folder of the source.
        kinds:   number of runs by kind, see `join.KINDS`.
        files:   number of written files by kind: further results, weights, checkpoints.
        told:    the runs to name: conflicts, and runs that are being trained.
        damaged: one line per file of the source that could not be read. It was left out.
    """

    root: Path
    kinds: Counter[str] = field(default_factory=Counter)
    files: Counter[str] = field(default_factory=Counter)
    told: list[Joined] = field(default_factory=list)
    damaged: list[str] = field(default_factory=list)

    def count(self, joined: Joined) -> None:
        """Count a run."""
        self.kinds[joined.kind] += 1
        self.files["weights"] += WEIGHTS in joined.files
        self.files["checkpoint"] += CHECKPOINT in joined.files
        if RECORD not in joined.files:
            self.files["addition"] += len({*joined.files} - {WEIGHTS, CHECKPOINT, "checkpoint.json"})
        if joined.note:
            self.told.append(joined)


def sources(folders: Sequence[Path], target: Store) -> list[Store]:
    """The stores to merge: each folder, and the stores of its own conflicts.

    Raises:
        InputError: a folder is no results folder, or is that of the target.
    """
    found = []
    for folder in folders:
        if not (folder / "runs").is_dir():
            inside = f"; give its parent {folder.parent}" if folder.name == "runs" else ""
            raise InputError(f"{folder} is no results folder: it has no folder runs{inside}")
        if folder.resolve() == target.root.resolve():
            raise InputError(f"{folder} is the results folder itself; give another one")
        found.append(Store(folder))
        found += [Store(each.parent) for each in sorted(folder.glob(f"{CONFLICTS}/*/runs"))]
    return found


def merge(source: Store, joiner: Joiner) -> Merged:
    """Merge one store.

    Args:
        source: is only read.
        joiner: of the target.

    Raises:
        StoreFailure: the target cannot be written.
        InputError:   a file of the source cannot be read.
    """
    found = Merged(source.root)
    for folder in source.folders():
        if (joined := joiner.join(folder, source)) is not None:
            found.count(joined)
    found.damaged = source.damaged
    return found


def merge_impossible(source: Store, target: Store, *, dry_run: bool) -> int:
    """Copy the notes on impossible runs that the target lacks. Returns their number.

    Raises:
        StoreFailure: the target cannot be written.
    """
    missing = list(_missing(source, target))
    if missing and not dry_run:
        folder = target.root / SKIPPED
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for file in missing:
                write_atomically(folder / file.name, file.read_bytes())
    return len(missing)


def _missing(source: Store, target: Store) -> Iterator[Path]:
    for file in sorted((source.root / SKIPPED).glob("*.json")):
        if file.is_file() and not (target.root / SKIPPED / file.name).exists():
            yield file
