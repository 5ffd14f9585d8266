"""Decide which final states are kept, and write them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress

from normbench import events
from normbench.engine.final_state import to_bytes
from normbench.engine.train import Result
from normbench.files import write_atomically
from normbench.phrases import counted
from normbench.run_folder import Guard
from normbench.spec import RunSpec
from normbench.store import Store
from normbench.sweeps.held_leases import LeaseLost

#: `keep_weights=auto` keeps final states of at most KEPT_PER_RUN bytes, and of KEPT_IN_ALL bytes in total.
KEPT_PER_RUN, KEPT_IN_ALL = 16 * 2**20, 5 * 2**30


def keep_weights(
    specs: Sequence[RunSpec],
    results: Sequence[Result],
    steps: int,
    store: Store,
    emit: Callable[[events.Event], None],
    guard: Callable[[str], Guard],
) -> None:
    """Write the final states of ended runs, as `keep_weights` says. `guard`: of each run by its signature.

    If the disk refuses, announce one notice and continue: the records are still written.
    """
    kept = store.kept_bytes() if specs and specs[0].keep_weights == "auto" else 0
    for spec, result in zip(specs, results, strict=True):
        if result.diverged_at is not None or spec.keep_weights is False:
            continue
        size = sum(tensor.nbytes for tensor in result.final_state.values())
        file = store.weights_file(spec.signature)
        if file.exists() or (spec.keep_weights == "auto" and not fits(size, kept)):
            continue
        kept += size
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            with suppress(LeaseLost):  # its record will not be written either
                write_atomically(file, to_bytes(result.final_state, spec, steps), guard(spec.signature))
        except OSError as error:
            reason = error.strerror or error
            emit(
                events.Notice(
                    f"final states cannot be kept in {file.parent}: {reason}; the records are not affected"
                )
            )
            return


def fits(size: int, kept: int) -> bool:
    """Whether `keep_weights=auto` keeps a final state of `size` bytes, if `kept` bytes are kept already."""
    return size <= KEPT_PER_RUN and kept + size <= KEPT_IN_ALL


def expected(sizes: Sequence[tuple[bool | str, int]], kept: int) -> list[str]:
    """The lines of a plan about the final states of its runs.

    >>> expected([("auto", 2**20)] * 3 + [("auto", 2**25)], kept=0)
    ['final states: 3.0 MiB for 3 runs; 1 run is too large and keeps none (keep_weights=true keeps all)']

    Args:
        sizes: per run, its `keep_weights` and the bytes of its final state.
        kept:  bytes of the final states that are in the store already.
    """
    total = number = too_large = 0
    for wanted, size in sizes:
        if wanted is True or (wanted == "auto" and fits(size, kept + total)):
            total, number = total + size, number + 1
        elif wanted == "auto":
            too_large += 1
    if not number and not too_large:
        return ["final states are not kept: metrics that are asked for later need training again"]
    said = f"final states: {total / 2**20:,.1f} MiB for {counted(number, 'run')}"
    if too_large:
        are = "is too large and keeps" if too_large == 1 else "are too large and keep"
        said += f"; {counted(too_large, 'run')} {are} none (keep_weights=true keeps all)"
    return [said]
