"""What training some configurations would run, as lines: for `plan` and for `reproduce --plan`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from normbench.commands.momenta import momenta
from normbench.commands.stacks import stacks
from normbench.config.sweep import resolve_sweep
from normbench.store import Store
from normbench.sweeps.get_or_train import Sweep


def plan_lines(configs: Sequence[Mapping[str, Any]], store: Store) -> Iterator[str]:
    """Runs, stacks, their widths, momenta, time, memory and disk space. Trains and writes nothing.

    Raises:
        InputError: a run cannot be trained as asked.
    """
    specs = resolve_sweep(configs)
    sweep = Sweep(specs.runs, store, executor=specs.executor)
    if sweep.faults:
        specs = specs.without(sweep.faults)
        sweep = Sweep(specs.runs, store, executor=specs.executor)
    plan = sweep.plan
    yield plan.headline()
    yield from (f"note: {note}" for note in (*specs.notes(), *plan.notes))
    yield from stacks(plan.packs)
    yield from sweep.tuning_lines()
    yield from momenta(plan.packs, store.root / "cache")
    if plan.packs:
        if (estimate := sweep.estimate()) is not None:
            yield from estimate.lines()
        yield from sweep.weights_lines()
