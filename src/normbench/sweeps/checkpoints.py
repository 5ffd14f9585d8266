"""Checkpoints: the states of runs on disk while they train, so that a killed run goes on.

A checkpoint belongs to one run: it names the signature, which covers the versions of the numbers. It is on
disk, name and all, before the earlier one is gone. One that does not fit its run is set aside under another
name, with a notice, and the run starts from the beginning. Reading executes no code.

If a process loses its lease between the check and the rename, its checkpoint may replace that of its
successor. That is a valid state of the same run at an earlier step, so only time can be lost.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from normbench import unfinished
from normbench.engine.probes.along_training import asked_of
from normbench.engine.state import LaneState
from normbench.files import sync_folder, write_atomically
from normbench.record import curve_point
from normbench.run_folder import SET_ASIDE, Guard, clean
from normbench.spec import RunSpec
from normbench.store import Store

#: Version of the content.
FORMAT = 2


def save(state: LaneState, spec: RunSpec, steps: int, store: Store, guard: Guard) -> None:
    """Write the state of a run.

    Args:
        steps: length of the run.
        guard: raises if the process must not write it.

    Raises:
        OSError, RuntimeError: the disk refuses; torch reports a full one as RuntimeError.
    """
    file = store.checkpoint_file(spec.signature)
    file.parent.mkdir(parents=True, exist_ok=True)
    whole = {"format": FORMAT, "signature": spec.signature, "steps": steps, **state}
    write_atomically(file, partial(torch.save, whole), guard)
    sync_folder(file.parent)
    note = unfinished.note(state["step"], steps, state["history"], spec.model_dump(mode="json"))
    write_atomically(file.with_name(unfinished.NAME), note, guard)
    if (record := store.get(spec.signature)) is not None and record.ended_well:
        _remove_if_lost(store, spec.signature, guard)


def _remove_if_lost(store: Store, signature: str, guard: Guard) -> None:
    """If the lease was lost meanwhile and the run has a result, nobody else would remove the checkpoint."""
    try:
        guard()
    except Exception:
        clean(store.run_folder(signature))
        raise


def load(spec: RunSpec, steps: int, store: Store, notify: Callable[[str], None]) -> LaneState | None:
    """The state of a run from its checkpoint. None if it has none, or its curve lacks wanted evaluations.

    Args:
        steps:  length of the run.
        notify: gets a line if the checkpoint does not fit and was set aside.
    """
    file = store.checkpoint_file(spec.signature)
    if not os.path.lexists(file):
        return None
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        fault = _fault(state, spec, steps)
    except FileNotFoundError:
        return None
    except Exception as error:  # damaged by a crash, from another version, or no checkpoint at all
        fault = f"it cannot be read ({type(error).__name__})"
    if fault is not None:
        set_aside(spec, store, fault, notify)
        return None
    return state if _has_evaluations(spec, state) and _has_diagnostics(spec, state) else None


def set_aside(spec: RunSpec, store: Store, fault: str, notify: Callable[[str], None]) -> None:
    """Give a checkpoint that does not fit another name, and say so."""
    file = store.checkpoint_file(spec.signature)
    aside = file.with_name(f"{SET_ASIDE}{secrets.token_hex(4)}.pt")
    try:
        file.rename(aside)
    except OSError as error:
        aside, fault = file, f"{fault}; it stays: {error.strerror or error}"
    notify(f"run {spec.signature} starts from step 0: its checkpoint does not fit: {fault}; see {aside}")


def _fault(state: Any, spec: RunSpec, steps: int) -> str | None:
    """Why a checkpoint does not fit a run; None if it does. Shapes are compared when the stack is built."""
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        return f"it is not a checkpoint of format {FORMAT}"
    if state.get("signature") != spec.signature:
        return f"it belongs to run {state.get('signature')}"
    if state.get("steps") != steps:
        return f"its run has {state.get('steps')} steps, but this one has {steps}"
    step, counted = state.get("step"), state.get("counted")
    if type(step) is not int or not 0 < step < steps:
        return f"its step is {step!r}, but must be between 0 and {steps}"
    if type(counted) is not int or not 0 <= counted <= step:
        return f"it counts {counted!r} steps after the last point of the curve"
    try:
        points = [curve_point(point)["step"] or 0 for point in state["history"]]
    except (LookupError, TypeError, ValueError):
        return "its curve is damaged"
    if points != sorted(set(points)) or [0, *points][-1] != step - counted:
        return "its curve does not lead to its step"
    for name in ("tensors", "diagnostics"):
        if not isinstance(state.get(name), dict):
            return f"its {name} are damaged"
    return None


def _has_evaluations(spec: RunSpec, state: LaneState) -> bool:
    """Whether a curve has the evaluations that are asked for, up to its step."""
    evaluated = {point["step"] for point in state["history"] if point.get("test_error") is not None}
    every = spec.eval.every or state["step"] + 1
    return evaluated.issuperset(range(every, state["step"] + 1, every))


def _has_diagnostics(spec: RunSpec, state: LaneState) -> bool:
    """Whether the curve of a run under way has been read as the diagnostics ask."""
    return not spec.diagnostics or state["diagnostics"].get("asked") == asked_of(spec)
