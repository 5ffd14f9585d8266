"""The runs of a store, ended or not, as one value each: what `normbench runs` lists, removes and tags."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from normbench.commands.asked_runs import asked_runs
from normbench.commands.damage import whole_records
from normbench.phrases import lasting
from normbench.record import FAILED, Record, why_failed
from normbench.report.selection import select
from normbench.report.tables import conditions_of
from normbench.run_states import PARTIAL, RUNNING, RunState, state_of
from normbench.signatures import completed
from normbench.store import Store

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

    @cached_property
    def size(self) -> int:
        """Bytes on disk."""
        return _bytes(self.folder)

    @cached_property
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
        known = {store.folder_of(record) for record in ended.values()}
        begun = [_bare(f.name) for f in store.folders() if f not in known and _is_run(f)]
        absent, order = [], {}
    found = [at_hand(store, record) for record in ended.values()]
    found += [_begun(store, run) for run in begun]
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
    folders = {folder.name: folder for folder in store.folders() if _is_run(folder)}
    found: dict[str, RunAtHand] = {}
    for name in names:
        signature = completed(name, folders)
        if signature and not (folders[signature] / "record.json").is_file():
            found[signature] = _begun(store, _bare(signature))
        else:
            record = store.find(name)
            found[record.signature] = at_hand(store, record)
    return list(found.values())


def at_hand(store: Store, record: Record) -> RunAtHand:
    """The run of a record."""
    folder, steps = store.folder_of(record), record.provenance.get("steps")
    if record.status == FAILED:
        state = state_of(store, record.signature)
        if state.state == RUNNING:
            return RunAtHand(replace(record, status=RUNNING), folder, state.step, _note(state))
    note = why_failed(record.provenance) if record.status == FAILED else ""
    return RunAtHand(record, folder, steps if type(steps) is int else None, note)


def _begun(store: Store, run: Record) -> RunAtHand:
    """A run that has not ended; `run` has its configuration, if that is known."""
    state = state_of(store, run.signature)
    status = RUNNING if state.state == RUNNING else PARTIAL
    record = replace(run, status=status, spec=run.spec or dict(state.spec))
    return RunAtHand(record, store.run_folder(run.signature), state.step, _note(state))


def _note(state: RunState) -> str:
    """Who trains a run, or where it goes on if it is asked for again."""
    if state.lease is not None:
        holder = state.lease.holder
        silent = lasting(state.silent_s or 0.0)
        return f"trained by {holder.host} process {holder.pid}, seen {silent} ago"
    return "no checkpoint: begins again" if state.step is None else f"checkpoint at step {state.step:,}"


def _bytes(folder: Path) -> int:
    """Bytes of all files in the folder of a run."""
    total = 0
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_file(follow_symlinks=False):
                total += entry.stat(follow_symlinks=False).st_size
    return total


def _is_run(folder: Path) -> bool:
    """Whether a folder was made for a run, with a record or on the way to one."""
    parts = ("record.json", "checkpoint.pt", "weights.safetensors", "lease.json")
    return any((folder / name).exists() for name in parts)


def _bare(signature: str) -> Record:
    """A run of which only the signature is known."""
    return Record(signature, {}, PARTIAL, {}, {}, {}, {})
