"""Which runs of a sweep cannot be built, and why. Checked before anything is trained or written."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from normbench import models
from normbench.data.shapes import check_crop, shape_of
from normbench.engine import device, graph_check, partners, source_check, starting_state
from normbench.engine.probes.registry import check as check_diagnostics
from normbench.errors import InputError
from normbench.ranks import launched
from normbench.spec import RunSpec


def find_faults(specs: Iterable[RunSpec], cache: Path, *, here: bool = True) -> dict[str, InputError]:
    """Signature → error, for the runs that cannot be built.

    Args:
        specs: the runs. Runs with one stack key are checked once.
        cache: the folder of decoded data sets.
        here:  whether they train on this machine, so that it must have their devices.

    Raises:
        InputError: the device of a run does not exist.
    """
    by_stack_key: dict[str, list[RunSpec]] = {}
    for spec in specs:
        by_stack_key.setdefault(spec.stack_key(), []).append(spec)
    for runs in by_stack_key.values() if here else ():
        device.check(runs[0].engine)
    found = {key: _architecture_fault(runs[0]) for key, runs in by_stack_key.items()}
    for key, runs in by_stack_key.items():  # second, because it may have to look for data
        found[key] = found[key] or _build_fault(runs[0], cache)
    return {
        spec.signature: fault
        for key, runs in by_stack_key.items()
        for spec in runs
        if (fault := found[key] or _state_fault(spec, cache)) is not None
    }


def _architecture_fault(spec: RunSpec) -> InputError | None:
    try:
        models.architecture(spec)
        graph_check.check(spec)
        partners.check(spec, launched())
    except InputError as error:
        return error
    return None


def _state_fault(spec: RunSpec, cache: Path) -> InputError | None:
    """The lanes of a stack may start from different states, so every run is checked."""
    if spec.model.weights is None:
        return None
    try:
        starting_state.check(spec, models.fitted(spec, shape_of(spec.data, cache)))
    except InputError as error:
        return error
    return None


def _build_fault(spec: RunSpec, cache: Path) -> InputError | None:
    try:
        shape = models.fitted(spec, shape_of(spec.data, cache))
        check_crop(spec.data, shape.size)
        models.check(spec, shape)
        check_diagnostics(spec, shape)
        source_check.check(spec, shape)
        spec.length(shape.train_images)
    except InputError as error:
        return error
    return None
