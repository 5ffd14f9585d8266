"""What `normbench status` prints: counts, a table by cell, and who trains what."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from normbench.commands.summary import DIGITS
from normbench.commands.text_table import columns
from normbench.labels import settings, varying
from normbench.leases import EXPIRES_S
from normbench.phrases import counted
from normbench.record import COMPLETE, DIVERGED, FAILED
from normbench.run_states import MISSING, PARTIAL, RUNNING, STATES, RunState, left_s
from normbench.store import Store
from normbench.tracking.messages import duration, seeds

#: Names of the states for readers, in the order of the columns.
_NAMES = {
    COMPLETE: "done", DIVERGED: "diverged", RUNNING: "running", PARTIAL: "partial", FAILED: "failed",
    MISSING: "missing",
}  # fmt: skip
Specs = Mapping[str, Mapping[str, Any]]


def lines(states: Sequence[RunState], specs: Specs, store: Store, *, whole: bool) -> Iterator[str]:
    """The lines of the verb.

    Args:
        states: of the runs, in their order.
        specs:  their specifications by signature.
        store:  of the runs.
        whole:  all runs of the store are meant, which are too different for a table by cell.
    """
    yield _headline(states)
    known = [spec for spec in specs.values() if spec]
    keys = [] if whole and len(known) > 1000 else varying(known)  # PERF: it compares all fields of all runs
    if keys and not whole:
        yield ""
        yield from columns(_cells(states, specs, keys))
    if running := [state for state in states if state.state == RUNNING]:
        yield from ["", RUNNING]
        yield from (f"  {line}" for line in columns(_stacks(running, specs, keys)))
    if partial := [state for state in states if state.state == PARTIAL]:
        yield from ["", "partial: the same train command goes on from these steps"]
        yield from (f"  {line}" for line in columns([_partial(state, specs, keys) for state in partial]))
    if failed := [state for state in states if state.state == FAILED]:
        yield from ["", FAILED]
        yield from (f"  {line}" for line in columns([_failed(each, specs, keys, store) for each in failed]))


def tree(states: Sequence[RunState], specs: Specs) -> dict[str, Any]:
    """The same as plain containers. Times are seconds; `since` is in seconds since 1970."""
    counts = Counter(state.state for state in states)
    known = [spec for spec in specs.values() if spec]
    keys = [*(varying(known) if len(known) <= 1000 else []), "seed"]
    return {
        "counts": {state: counts[state] for state in STATES},
        "left_s": left_s(states),
        "runs": [_plain(state, settings(specs[state.signature], keys)) for state in states],
    }


def _plain(state: RunState, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {"signature": state.signature, "settings": name, "state": state.state}
    if (lease := state.lease) is not None:
        found |= {
            "host": lease.holder.host, "pid": lease.holder.pid, "since": lease.since, "stack": lease.stack,
            "silent_s": state.silent_s,
        }  # fmt: skip
    optional = {"step": state.step, "steps": state.steps, "reason": state.reason, "last": state.last or None}
    return found | {key: value for key, value in optional.items() if value is not None}


def _headline(states: Sequence[RunState]) -> str:
    counts = Counter(state.state for state in states)
    parts = [f"{counts[state]:,} {name}" for state, name in _NAMES.items() if counts[state]]
    line = f"{counted(len(states), 'run')}: {', '.join(parts)}" if parts else "no runs"
    left = left_s(states)
    return line if left is None else f"{line} · about {duration(left)} left"


def _cells(states: Sequence[RunState], specs: Specs, keys: Sequence[str]) -> list[dict[str, object]]:
    """One row per configuration, with its runs by state. States that no run has are left out."""
    cells: dict[str, Counter[str]] = {}
    for state in states:
        cells.setdefault(settings(specs[state.signature], keys), Counter())[state.state] += 1
    present = [state for state in STATES if any(cell[state] for cell in cells.values())]
    return [
        {"cell": name, **{_NAMES[state]: cell[state] for state in present}} for name, cell in cells.items()
    ]


def _stacks(states: Sequence[RunState], specs: Specs, keys: Sequence[str]) -> list[dict[str, object]]:
    """One row per configuration and process that trains it."""
    groups: dict[tuple[str, str], list[RunState]] = {}
    for state in states:
        assert state.lease is not None
        groups.setdefault((state.lease.token, _name(state, specs, keys)), []).append(state)
    return [_stack(group, name, specs) for (_, name), group in groups.items()]


def _stack(group: Sequence[RunState], name: str, specs: Specs) -> dict[str, object]:
    lease, silent = group[0].lease, group[0].silent_s or 0.0
    assert lease is not None
    numbers = [spec["seed"] for state in group if "seed" in (spec := specs[state.signature])]
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(lease.since))
    quiet = f", silent for {duration(silent)}" if silent > EXPIRES_S else ""
    return {
        "runs": f"{name} {seeds(numbers) if numbers else ''}".strip(),
        "step": _step(group[0]),
        "process": f"{lease.holder}{quiet}",
        "since": since,
    }


def _partial(state: RunState, specs: Specs, keys: Sequence[str]) -> dict[str, object]:
    name = settings(specs[state.signature], [*keys, "seed"])
    return {"run": state.signature[:DIGITS], "settings": name, "step": _step(state)}


def _failed(state: RunState, specs: Specs, keys: Sequence[str], store: Store) -> dict[str, object]:
    return {
        "run": state.signature[:DIGITS], "settings": settings(specs[state.signature], [*keys, "seed"]),
        "reason": state.reason, "traceback": store.error_file(state.signature),
    }  # fmt: skip


def _name(state: RunState, specs: Specs, keys: Sequence[str]) -> str:
    return settings(specs[state.signature], keys) or state.signature[:DIGITS]


def _step(state: RunState) -> str:
    if state.step is None:
        return "unknown"
    return f"{state.step:,}" if state.steps is None else f"{state.step:,} of {state.steps:,}"
