"""The files that travel with a run from one store to another.

The record, curves, diagnostics, evaluations, tags, the final state, and the checkpoint of a run without a
result. Leases, temporary files and checkpoints that were set aside stay where they are.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from normbench import leases, run_series, stored_state, tags, unfinished
from normbench.errors import InputError
from normbench.files import Content
from normbench.leases import EXPIRES_S, SKEW_S, Lease
from normbench.processes import has_ended
from normbench.record import FAILED, Addition, Record
from normbench.run_folder import config_text

WEIGHTS, CHECKPOINT, RECORD = "weights.safetensors", "checkpoint.pt", "record.json"
_ALONE = ("history.jsonl", "diagnostics.jsonl", tags.FILE)
#: Files that were added after the run had ended.
_LATER = ("evaluation-*.json", "curve-*.json", "diagnostics-*.jsonl")
#: Bytes that are copied at once.
_BLOCK = 2**20
#: Gets one line about a file that cannot be used.
Note = Callable[[str], object]


def today(record: Record) -> Record:
    """A record as this version writes it: one of schema 1 belongs to the folder of today's signature."""
    provenance = dict(record.provenance)
    if (earlier := provenance.pop("earlier_signature", None)) is None:
        return record
    return replace(record, provenance=provenance | {"migrated_from": earlier})


def whole_run(folder: Path, record: Record, note: Note) -> dict[str, Content]:
    """All files of an ended run, by name, in the order in which they are written. The record is last.

    Args:
        folder: of the run in its store.
        record: of the run, with additions.
        note:   gets a line if its final state is damaged and left out.
    """
    files: dict[str, Content] = {}
    names = [*_ALONE, *(["error.txt"] if record.status == FAILED else [])]
    later = (file.name for pattern in _LATER for file in sorted(folder.glob(pattern)))
    for name in (*names, *later):
        if (folder / name).is_file():
            files[name] = copy_of(folder / name)
    if _has_whole_weights(folder, note):
        files[WEIGHTS] = copy_of(folder / WEIGHTS)
    if record.status == FAILED:
        files |= checkpoint(folder)
    if "earlier_signature" in record.provenance:
        files["config.yaml"] = config_text(record.spec)
        files[RECORD] = today(record).to_json()
        return files
    for name in ("config.yaml", RECORD):
        if (folder / name).is_file():
            files[name] = copy_of(folder / name)
    return files


def checkpoint(folder: Path) -> dict[str, Content]:
    """The checkpoint of a run, by name; empty if it has none."""
    names = (CHECKPOINT, unfinished.NAME) if (folder / CHECKPOINT).is_file() else ()
    return {name: copy_of(folder / name) for name in names if (folder / name).is_file()}


def additions(
    ours: Record, place: Path, theirs: Record, folder: Path, base: Record, note: Note
) -> dict[str, Content]:
    """What another store knows of a run beyond ours, as files by name. Both results are equal.

    Args:
        ours:   our record, with additions, in the folder `place`.
        theirs: the other record, with additions, in `folder`.
        base:   the other record without additions, with its first curve.
        note:   gets a line per file that is damaged and left out.
    """
    files: dict[str, Content] = {}
    if not _same_training(ours, base):
        files |= run_series.of_later_training(place, ours, _without_known_diagnostics(base, ours))
    known = ours.measured | base.measured
    for file in sorted(folder.glob("evaluation-*.json")):
        addition = _addition(file, theirs.signature)
        new = addition is not None and not {*addition.metrics, *addition.tables} <= known
        if new and not (place / file.name).exists():
            files[file.name] = copy_of(file)
    for pattern in _LATER[1:]:
        for file in sorted(folder.glob(pattern)):
            if file.name not in files and not _has_series(place, ours, file):
                files[file.name] = copy_of(file)
    if not (place / WEIGHTS).exists() and _has_whole_weights(folder, note):
        files[WEIGHTS] = copy_of(folder / WEIGHTS)
    change = tags.changed(place) or tags.Change(ours.tags)
    new_tags = [tag for tag in theirs.tags if tag not in (*change.tags, *change.removed)]
    if new_tags:
        files[tags.FILE] = tags.text([*change.tags, *new_tags], change.removed)
    return files


def _same_training(ours: Record, base: Record) -> bool:
    """Whether two records are copies of one training: it has ended in the same second on the same device."""
    keys = ("ended", "commit", "lane", "bank", "stack_size")
    return (
        all(ours.provenance.get(key) == base.provenance.get(key) for key in keys)
        and ours.timing == base.timing
        and base.measured <= ours.measured
    )


def _without_known_diagnostics(base: Record, ours: Record) -> Record:
    """A record that does not ask for diagnostics, if ours has read all of them."""
    asked, read = base.spec.get("diagnostics") or [], ours.spec.get("diagnostics") or []
    return base if {*asked} - {*read} else replace(base, spec={**base.spec, "diagnostics": []})


def _addition(file: Path, signature: str) -> Addition | None:
    """An addition; None if it cannot be read, which the store has noted, or belongs to another run."""
    try:
        found = Addition.from_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return None
    return found if found.signature == signature else None


def _has_series(place: Path, ours: Record, file: Path) -> bool:
    every = file.stem.removeprefix("curve-")
    if every.isdigit():
        return run_series.has_curve(place, ours, int(every))
    return (place / file.name).exists()


def _has_whole_weights(folder: Path, note: Note) -> bool:
    """Whether a run has a final state that can be read to its last byte."""
    if not (folder / WEIGHTS).is_file():
        return False
    try:
        stored_state.contents(folder / WEIGHTS)
    except InputError:
        note(f"{folder / WEIGHTS}: it is damaged; it is left out")
        return False
    return True


def copy_of(file: Path) -> Callable[[BinaryIO], object]:
    """The content of a file for `write_atomically`. If it cannot be read, an InputError names it."""

    def copy(stream: BinaryIO) -> None:
        for block in _blocks(file):
            stream.write(block)

    return copy


def _blocks(file: Path) -> Iterator[bytes]:
    try:
        with file.open("rb") as stream:
            while block := stream.read(_BLOCK):
                yield block
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}; repeat the command") from None


def trained_by(folder: Path) -> Lease | None:
    """The lease of a process that trains a run, as far as a reader can tell; None if nobody trains it."""
    seen = leases.read(folder / "lease.json")
    if seen is None or seen.lease is None or has_ended(seen.lease.holder):
        return None
    return seen.lease if time.time() - seen.modified / 1e9 < EXPIRES_S + SKEW_S else None
