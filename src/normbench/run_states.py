"""How far runs are: done, running, partial or missing. Reads no more than needed and writes nothing.

complete, diverged, failed   as the record says
running                      a process holds the lease and trains the run
partial                      nobody trains it, and it has a checkpoint to go on from
missing                      none of these
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from normbench import leases, unfinished
from normbench.leases import Lease
from normbench.processes import has_ended
from normbench.record import COMPLETE, DIVERGED, FAILED, STATUSES, Record, why_failed
from normbench.store import Store

RUNNING, PARTIAL, MISSING = "running", "partial", "missing"
STATES = (COMPLETE, DIVERGED, RUNNING, PARTIAL, FAILED, MISSING)


@dataclass(frozen=True)
class RunState:
    """How far a run is.

    Attributes:
        state:    one of STATES.
        spec:     of its record; empty if it has none.
        step:     finished steps, of a run that is running or partial; None if unknown.
        steps:    length of the run likewise.
        lease:    of a running run.
        silent_s: seconds since its holder gave the last sign, by the clock of this machine.
        reason:   why it failed.
        last:     the newest point of the curve of a checkpoint.
    """

    signature: str
    state: str
    spec: Mapping[str, Any] = field(default_factory=dict)
    step: int | None = None
    steps: int | None = None
    lease: Lease | None = None
    silent_s: float | None = None
    reason: str | None = None
    last: dict[str, float | None] = field(default_factory=dict)


def state_of(store: Store, signature: str) -> RunState:
    """How far a run is."""
    folder = store.run_folder(signature)
    record = _record(folder / "record.json") or _earlier(store, signature)
    known = unfinished.read(folder)
    spec = record.get("spec") or (known.spec if known is not None else {})
    if (seen := leases.read(store.lease_file(signature))) is not None and seen.lease is not None:
        lease = seen.lease
        if not has_ended(lease.holder):
            silent = max(0.0, time.time() - seen.modified / 1e9)
            steps = lease.steps or None
            return RunState(signature, RUNNING, spec, lease.step, steps, lease, silent)
    status = record.get("status")
    if status in (COMPLETE, DIVERGED):
        return RunState(signature, str(status), spec)
    step, steps = (known.step, known.steps) if known is not None else (None, None)
    last = known.curve[-1] if known is not None and known.curve else {}
    if status == FAILED:
        reason = why_failed(record.get("provenance", {}))
        return RunState(signature, FAILED, spec, step, steps, reason=reason)
    return RunState(signature, MISSING if known is None else PARTIAL, spec, step, steps, last=last)


def all_states(store: Store) -> Iterator[RunState]:
    """How far every run with a folder is, in the order of signatures. Empty folders are left out."""
    for folder in store.folders():
        state = state_of(store, folder.name)
        if state.state != MISSING:
            yield state


def left_s(states: Sequence[RunState]) -> float | None:
    """Seconds until all runs are done, if as many train at the same time as now; None if nobody knows.

    The pace of a stack is that since it began. Runs that have not begun count as long as the longest known.
    """
    rate, lengths = 0.0, [state.steps for state in states if state.steps]
    for state in states:
        if (lease := state.lease) is not None and lease.renewed > lease.since:
            rate += (lease.step - lease.first) / (lease.renewed - lease.since)
    if rate <= 0 or not lengths:
        return None
    unfinished_states = (RUNNING, PARTIAL, MISSING)
    open_runs = [state for state in states if state.state in unfinished_states]
    return sum((state.steps or max(lengths)) - (state.step or 0) for state in open_runs) / rate


def _record(file: Path) -> dict[str, Any]:
    """Status, specification and provenance of a record. PERF: without the checks that a table needs."""
    try:
        tree = json.loads(file.read_bytes())
        return tree if tree["status"] in STATUSES and isinstance(tree["provenance"], dict) else {}
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return {}


def _earlier(store: Store, signature: str) -> dict[str, Any]:
    """A record of schema 1, which lies in another folder, in the same words."""
    record: Record | None = None if store.run_folder(signature).exists() else store.get(signature)
    if record is None:
        return {}
    return {"status": record.status, "spec": record.spec, "provenance": record.provenance}
