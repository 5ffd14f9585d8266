"""Bring one run into a store: nothing that is there is overwritten, and what is missing is added.

A run is new, or has a result on one side only, or has results on both. Equal results: what ours lacks is
added as further files. Different results: theirs is kept aside, in a store of its own below `conflicts/`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import NoReturn

from normbench import run_series
from normbench.errors import RunFailure
from normbench.exclusive import exclusive
from normbench.files import Content
from normbench.merging import run_files
from normbench.merging.comparison import difference
from normbench.record import Record
from normbench.run_folder import clean, write_files
from normbench.store import Store
from normbench.sweeps.tidy import tidy

#: Folder of the stores that hold other results of runs of this store: conflicts/1, conflicts/2, …
CONFLICTS = "conflicts"

NEW = "new"  # the run had no record here
FILLED = "filled"  # it had failed here, and has a result there
ADDED = "added"  # both results are equal, and theirs has more
KNOWN = "known"  # nothing there is missing here
STARTED = "started"  # only its checkpoint came
CONFLICT = "conflict"  # the results differ; theirs was put aside
ASIDE = "aside"  # likewise, and theirs had been put aside before
BUSY = "busy"  # a process trains it; nothing was done
KINDS = (NEW, FILLED, ADDED, STARTED, KNOWN, CONFLICT, ASIDE, BUSY)
_SIGNATURE = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class Joined:
    """What became of one run of another store.

    Attributes:
        kind:  one of KINDS.
        files: names of the files that were written.
        place: the folder that has them.
        note:  how results differ, or who trains the run.
    """

    signature: str
    kind: str
    place: Path
    files: tuple[str, ...] = ()
    note: str = ""


class Joiner:
    """Joins runs of other stores into one.

    Args:
        target:  the store that gets them.
        dry_run: write nothing and say what would be done. Files that several sources would add to one run
                 are then counted for each.
    """

    def __init__(self, target: Store, *, dry_run: bool = False) -> None:
        self.target, self._dry_run = target, dry_run
        self._instead: dict[Path, Path] = {}  # in a dry run: folder here → folder there that it would be

    def join(self, folder: Path, source: Store) -> Joined | None:
        """Join the run in a folder of another store; None if the folder holds neither record nor checkpoint.

        Raises:
            StoreFailure: the target cannot be written.
            InputError:   a file of the source cannot be read.
        """
        record = source.record_in(folder)
        if record is None:
            begun = (folder / run_files.CHECKPOINT).is_file() and _SIGNATURE.fullmatch(folder.name)
            return self._checkpoint(folder.name, folder) if begun else None
        joined = self._into(self.target, folder, source, record)
        if joined.kind != CONFLICT:
            return joined
        for number in count(1):
            side = Store(self.target.root / CONFLICTS / str(number))
            aside = self._into(side, folder, source, record)
            if aside.kind != CONFLICT:
                kind = CONFLICT if aside.kind in (NEW, BUSY) else ASIDE
                return replace(aside, kind=kind, note=joined.note)
        raise AssertionError

    def _into(self, store: Store, folder: Path, source: Store, record: Record) -> Joined:
        place = store.run_folder(record.signature)
        ours = store.record_in(self._instead.get(place, place))
        result = Joined(record.signature, KNOWN, place)
        if ours is None or (not ours.ended_well and record.ended_well):
            files = run_files.whole_run(folder, record, source.note)
            kind = NEW if ours is None else FILLED
            return self._write(replace(result, kind=kind), folder, files, ends=record.ended_well)
        if not ours.ended_well:
            return self._checkpoint(record.signature, folder)
        if not self._dry_run and store.lease_file(record.signature).exists():
            tidy(store, record.signature)  # a merge was killed in the last instant of this run
        if not record.ended_well:
            return result
        if (said := difference(ours, record)) is not None:
            return replace(result, kind=CONFLICT, note=said)
        further = run_files.additions(
            ours, self._instead.get(place, place), record, folder, _base(folder, source), source.note
        )
        if further and not self._dry_run:
            write_files(place, further, lambda: None)
        return replace(result, kind=ADDED if further else KNOWN, files=tuple(further))

    def _checkpoint(self, signature: str, folder: Path) -> Joined:
        """Join a run that has not ended well there: only its checkpoint can be missing here."""
        place = self.target.run_folder(signature)
        stands = self._instead.get(place, place)
        result = Joined(signature, KNOWN, place)
        ours = self.target.record_in(stands)
        if (ours is not None and ours.ended_well) or (stands / run_files.CHECKPOINT).exists():
            return result
        if (lease := run_files.trained_by(folder)) is not None:
            return replace(result, kind=BUSY, note=f"{lease.holder} trains it there")
        files = run_files.checkpoint(folder)
        return self._write(replace(result, kind=STARTED), folder, files) if files else result

    def _write(
        self, result: Joined, folder: Path, files: Mapping[str, Content], *, ends: bool = False
    ) -> Joined:
        """Write files of a run that has no result here; `ends`: they hold a result."""
        place = result.place
        if (lease := run_files.trained_by(place)) is not None:
            return replace(result, kind=BUSY, note=f"{lease.holder} trains it here")
        if self._dry_run:
            self._instead[place] = folder
            return replace(result, files=tuple(files))
        with _claimed(place):
            if ends and run_files.WEIGHTS not in files:  # of a training that was killed before its record
                (place / run_files.WEIGHTS).unlink(missing_ok=True)
            write_files(place, files, lambda: None)
            if ends:
                clean(place)
        return replace(result, files=tuple(files))


def _base(folder: Path, source: Store) -> Record:
    """A record without its additions, with its own curve and diagnostics."""
    file = folder / run_files.RECORD
    record = run_files.today(Record.from_json(file.read_text(encoding="utf-8")))
    return replace(record, **run_series.of_first_training(folder, source.note))


def _claimed(place: Path) -> AbstractContextManager[None]:
    """Hold the lease of a run while its files are written, so that nobody begins to train it.

    Raises:
        StoreFailure: the lease cannot be written.
        RunFailure:   another process has taken it in this instant.
    """

    def refuse() -> NoReturn:
        raise RunFailure(f"run {place.name} has begun to train just now; repeat the command later")

    return exclusive(place / "lease.json", refuse)
