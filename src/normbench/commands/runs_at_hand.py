"""The runs of a store, ended or not, as one value each: what `normbench runs` lists, removes and tags."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from normbench.commands.asked_runs import asked_runs
from normbench.commands.damage import whole_records
from normbench.commands.summary import failure
from normbench.commands.unfinished import LEASE, checkpoint_step, folder_bytes, holder_of, idle_note
from normbench.errors import InputError
from normbench.record import FAILED, Record
from normbench.report.selection import select
from normbench.report.tables import conditions_of
from normbench.store import Store

PARTIAL, RUNNING = "partial", "running"
#: Keys of conditions that a run has before its configuration is known.
_ALWAYS = ("status", "tags")


@dataclass(frozen=True)
class RunAtHand:
    """A run that has a folder.

    Attributes:
        record: of the run; without metrics and, if nobody says it, without configuration unless it has ended.
        folder: of the run.
        steps:  finished steps; None if that is not known.
        note:   why it failed, who trains it, or where it goes on.
    """

    record: Record
    folder: Path
    steps: int | None
    note: str = ""

    @property
    def signature(self) -> str:
        return self.record.signature

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return folder_bytes(self.folder)

    @property
    def changed(self) -> float | None:
        """When the record, or else the folder, was last written, in seconds since 1970."""
        for place in (self.folder / "record.json", self.folder):
            try:
                return place.stat().st_mtime
            except OSError:
                continue
        return None


def runs_at_hand(
    store: Store, words: Sequence[str] = (), where: Sequence[str] = (), config_dir: str | None = None
) -> tuple[list[RunAtHand], list[Record]]:
    """The runs that have a folder, and those that were asked for and have none.

    Args:
        words:      those of a train command, whose order is kept; none for all runs of the store.
        where:      conditions as `--where` takes them.
        config_dir: a folder with the user's own choices.

    Raises:
        InputError: the words do not compose, or no run meets the conditions.
    """
    if words:
        asked = asked_runs(words, store, config_dir, need_one=False)
        ended = {record.signature: record for record in asked.records}
        begun = [run for run in asked.missing if store.run_folder(run.signature).is_dir()]
        absent = [run for run in asked.missing if not store.run_folder(run.signature).is_dir()]
        order = {run.signature: str(run.provenance.get("asked", "")) for run in (*begun, *asked.records)}
    else:
        ended = {record.signature: record for record in whole_records(store)}
        known = {record_folder(store, record) for record in ended.values()}
        folders = sorted((store.root / "runs").glob("*/*/"))
        begun = [_without_record(f) for f in folders if f not in known and _is_run(f)]
        absent, order = [], {}
    found = [at_hand(store, record) for record in ended.values()]
    found += [_begun(store.run_folder(run.signature), run) for run in begun]
    found.sort(key=lambda run: order.get(run.signature, ""))
    if where:
        conditions = conditions_of(where)
        plain = all(condition.key in _ALWAYS for condition in conditions)
        found = [run for run in found if plain or run.record.spec]
        records = select([run.record for run in found], conditions) if found else []
        kept = {record.signature for record in records}
        found = [run for run in found if run.signature in kept]
        absent = [run for run in absent if all(condition.admits(run) for condition in conditions)]
    return found, absent


def named_runs(store: Store, names: Iterable[str]) -> list[RunAtHand]:
    """The runs with these starts of signatures, ended or not.

    Raises:
        InputError: a name fits no run, or several.
    """
    folders = {f.name: f for f in sorted((store.root / "runs").glob("*/*/")) if _is_run(f)}
    found: dict[str, RunAtHand] = {}
    for name in names:
        matches = [signature for signature in folders if name and signature.startswith(name.lower())]
        if len(matches) > 1:
            some = ", ".join(matches[:8])
            raise InputError(f"'{name}' is the start of {len(matches)} runs: {some}; give more digits")
        if matches and not (folders[matches[0]] / "record.json").is_file():
            folder = folders[matches[0]]
            found[folder.name] = _begun(folder, _without_record(folder))
        else:
            record = store.find(name)
            found[record.signature] = at_hand(store, record)
    return list(found.values())


def record_folder(store: Store, record: Record) -> Path:
    """The folder of a record. A record of schema 1 lies in the folder of its earlier signature."""
    return store.run_folder(str(record.provenance.get("earlier_signature", record.signature)))


def _is_run(folder: Path) -> bool:
    """Whether a folder was made for a run, with a record or on the way to one."""
    parts = ("record.json", "checkpoint.pt", "weights.safetensors", LEASE)
    return any((folder / name).exists() for name in parts)


def at_hand(store: Store, record: Record) -> RunAtHand:
    """The run of a record."""
    folder, steps = record_folder(store, record), record.provenance.get("steps")
    if record.status == FAILED and (holder := holder_of(folder)) is not None:
        return RunAtHand(replace(record, status=RUNNING), folder, holder.step, holder.note)
    note = failure(record) if record.status == FAILED else ""
    return RunAtHand(record, folder, steps if type(steps) is int else None, note)


def _begun(folder: Path, run: Record) -> RunAtHand:
    """A run that has not ended; `run` has its configuration, if that is known."""
    holder, step = holder_of(folder), checkpoint_step(folder / "checkpoint.pt")
    if holder is None:
        return RunAtHand(replace(run, status=PARTIAL), folder, step, idle_note(step))
    step = step if holder.step is None else holder.step
    return RunAtHand(replace(run, status=RUNNING), folder, step, holder.note)


def _without_record(folder: Path) -> Record:
    """A run of which only the signature is known, and the configuration if the folder has it."""
    spec: dict[str, Any] = {}
    try:
        found = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        spec = json.loads(json.dumps(found)) if isinstance(found, dict) else {}
    except (OSError, ValueError, TypeError, yaml.YAMLError):
        pass
    return Record(folder.name, spec, PARTIAL, {}, {}, {}, {})
