"""Compares the speed of stacks, lone runs and plain loops on this machine.

Other programs share a machine and its speed drifts. So in every round each contestant has a short turn, and
ratios are taken within a round.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

import torch

from normbench import models
from normbench.autotune.cores import process_count
from normbench.autotune.memory import lanes_that_fit
from normbench.autotune.search import search
from normbench.autotune.tuning import Measurement
from normbench.bench.grid import Case, Grid
from normbench.bench.plain import refusal
from normbench.bench.processes import Contestant, Processes
from normbench.bench.roofline import PROBES, StepCounts, amount, count_step
from normbench.engine.device import device_name, find_device
from normbench.engine.free_memory import free_bytes
from normbench.engine.stack_layout import StackLayout
from normbench.errors import RunFailure
from normbench.momentum import parse_momentum
from normbench.spec import RunSpec

#: Momenta of the runs that share one training, with a bank of statistics each.
MOMENTA = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.5, 0.9)
#: All turns of a probe together take at most so many seconds.
PROBE_S = 1.0

Rates = dict[str, list[float]]  # steps per second in every round, by contestant


def measure(grid: Grid, cases: Sequence[Case], say: Callable[[str], None]) -> dict[str, Any]:
    """Measure the cases of a grid.

    Args:
        say: gets a line about what is measured now.

    Returns:
        What normbench.bench describes, without commit, date and command.

    Raises:
        RunFailure: a process died, or a measurement raised in it.
    """
    engine = cases[0].spec.engine
    device = find_device(engine.device)
    count = process_count(engine)
    notes = list(dict.fromkeys(note for case in cases for note in case.notes))
    cells: list[dict[str, Any]] = []
    banks: list[dict[str, Any]] = []
    with Processes(count, device) as processes:
        say(f"starting {count} process{'es' * (count > 1)}, measuring peaks")
        peaks = _peaks(processes, cases[0].spec, grid)
        for number, case in enumerate(cases, 1):
            say(f"measuring {case.name} ({number} of {len(cases)})")
            mine = _case(case, grid, processes, peaks, notes)
            cells += mine[0]
            banks += mine[1]
    return {
        "schema": 1, "device": device_name(device), "kind": device.type, "processes": count,
        "torch": torch.__version__, "precision": engine.precision, "rounds": grid.rounds,
        "seconds": grid.seconds, "peaks": peaks, "cells": cells, "banks": banks, "notes": notes,
    }  # fmt: skip


def spread(values: Sequence[float]) -> dict[str, Any]:
    """A quantity measured in several rounds.

    >>> spread([2.0, 1.0, 4.0])
    {'median': 2.0, 'min': 1.0, 'max': 4.0, 'rounds': [2.0, 1.0, 4.0]}
    """
    return {"median": median(values), "min": min(values), "max": max(values), "rounds": list(values)}


def _peaks(processes: Processes, spec: RunSpec, grid: Grid) -> dict[str, float]:
    """Operations and bytes per second of all processes together, of the best round."""
    processes.all("clear", None)
    probes = [Contestant(name, name, (spec,)) for name in PROBES]
    rates = _rounds(processes, probes, grid.rounds, min(PROBE_S, grid.seconds), [], most=math.inf)
    product, copy, cached = (max(rates[name]) * amount(name, processes.device) for name in PROBES)
    return {"flops_per_s": product, "bytes_per_s": copy, "cache_bytes_per_s": cached}


def _rounds(
    processes: Processes,
    contestants: Sequence[Contestant],
    rounds: int,
    seconds: float,
    notes: list[str],
    most: float,
) -> Rates:
    """Give every contestant a turn in every round; the order is reversed after each round.

    Args:
        seconds: of all turns of a contestant together.
        notes:   get the reason why a contestant cannot take part.
        most:    seconds that a step may take.
    """
    ready = []
    for contestant in contestants:
        reasons = processes.all("enter", contestant, seconds / rounds, most)
        if why := next(filter(None, reasons), ""):
            spec = contestant.specs[0]
            notes.append(f"{spec.model.name}, batch {spec.batch}: no {contestant.name}: {why}")
        else:
            ready.append(contestant)
    rates: Rates = {contestant.name: [] for contestant in ready}
    for _ in range(rounds):
        for contestant in ready:
            rates[contestant.name].append(processes.rate(contestant, seconds / rounds))
        ready.reverse()
    return rates


def _case(
    case: Case, grid: Grid, processes: Processes, peaks: dict[str, float], notes: list[str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Cells and banks of a case. The notes get what could not be measured."""
    processes.all("clear", case.dataset)
    contestants = _contestants(case, grid, processes, notes)
    rates = _rounds(processes, contestants, grid.rounds, grid.seconds, notes, most=grid.seconds)
    stacks = {contestant.name: contestant for contestant in contestants if contestant.loop == "stack"}
    host = {name: processes.all("host", stacks[name])[0] for name in stacks if name in rates}
    processes.all("clear", case.dataset)  # the phases are measured on new stacks
    counts = count_step(case.spec, case.dataset.shape)
    theirs = {
        name: rates.get(key) for name, key in (("lone", _stack(1)), ("plain", "plain"), ("tuned", "tuned"))
    }
    cells = []
    for lanes in grid.lanes:
        if mine := rates.get(_stack(lanes)):
            contestant = stacks[_stack(lanes)]
            phases = processes.all("phases", contestant, grid.seconds / grid.rounds)[0]
            cells.append(
                _about(case, lanes)
                | _compared(mine, theirs, lanes)
                | _roofline(mine, lanes, counts, peaks)
                | {"step_s": sum(phases.values()), "host_s": host[_stack(lanes)], "phases_s": phases}
                | _described(contestant.layout)
            )
    lone, banks = theirs["lone"], rates.get("banks")
    if not lone or not banks:
        return cells, []
    ratio = spread([one / many for one, many in zip(lone, banks, strict=True)])
    return cells, [_about(case, 1) | {"banks": len(MOMENTA), "ratio": ratio}]


def _contestants(case: Case, grid: Grid, processes: Processes, notes: list[str]) -> list[Contestant]:
    """The contestants of a case that this machine can hold, the lone run first."""
    spec = case.spec
    room = lanes_that_fit(
        models.footprint(spec, case.dataset.shape), processes.count, free_bytes(processes.device)
    )
    lanes = sorted({1, *grid.lanes})
    found = [
        Contestant(_stack(k), "stack", case.runs(k), _layout(case, k, grid, processes, notes))
        for k in lanes
        if k <= room
    ]
    large = lanes[len(found) :]
    notes += [f"{case.name}: no {_stack(k)}: by an estimate, memory holds {room} lanes" for k in large]
    if spec.norm.banks and spec.norm.momentum is not None:
        found.append(Contestant("banks", "stack", banked(spec)))
    if lacks := refusal(spec):
        notes.append(f"{case.name}: no plain loop: it cannot do {lacks}")
    else:
        loops = ("plain", "tuned") if processes.device.type == "cuda" else ("plain",)
        found += [Contestant(loop, loop, (spec,)) for loop in loops]
    return found


def _layout(case: Case, lanes: int, grid: Grid, processes: Processes, notes: list[str]) -> StackLayout | None:
    """The fastest layout of a stack, measured as before training; None, with a note, if that fails."""
    engine = case.spec.engine.model_copy(update={"lanes": lanes})
    spec = case.spec.model_copy(update={"engine": engine})
    measured: dict[int, Measurement] = {}
    try:
        search(
            spec, case.dataset.shape, lanes, measured, processes.pool.run_on_all,
            room=lambda: lanes, seconds=grid.seconds,
        )  # fmt: skip
    except RunFailure as failure:
        notes.append(f"{case.name}: the layout of the {_stack(lanes)} was not measured: {failure}")
    return measured[lanes].layout if lanes in measured else None


def _described(layout: StackLayout | None) -> dict[str, Any]:
    """The memory format of a stack, and the algorithms of convolutions that are not computed as usual."""
    return {} if layout is None else {"layout": layout.memory_format, "exceptions": dict(layout.exceptions)}


def _stack(lanes: int) -> str:
    return f"stack of {lanes}"


def banked(spec: RunSpec) -> tuple[RunSpec, ...]:
    """Runs that differ only in the momentum of their statistics, and so share one training."""
    norms = [spec.norm.model_copy(update={"momentum": parse_momentum(m)}) for m in MOMENTA]
    return tuple(spec.model_copy(update={"norm": norm}) for norm in norms)


def _about(case: Case, lanes: int) -> dict[str, Any]:
    spec = case.spec
    return {
        "model": spec.model.name, "norm": spec.norm.name, "data": case.dataset.name, "batch": spec.batch,
        "workers": spec.workers, "lanes": lanes,
    }  # fmt: skip


def _compared(mine: list[float], theirs: dict[str, list[float] | None], lanes: int) -> dict[str, Any]:
    """Run-steps per second of a stack, lone runs and plain loops, and the stack's ratio to each."""
    own = [lanes * rate for rate in mine]
    found = {name: rates for name, rates in theirs.items() if rates}
    return {
        "run_steps_per_s": {"stack": spread(own), **{name: spread(rates) for name, rates in found.items()}},
        "ratio": {
            name: spread([a / b for a, b in zip(own, rates, strict=True)]) for name, rates in found.items()
        },
    }


def _roofline(mine: list[float], lanes: int, counts: StepCounts, peaks: dict[str, float]) -> dict[str, Any]:
    """Operations and bytes of a run's step, and the share of the machine's peaks that a stack reaches."""
    rate = lanes * median(mine)
    return {
        "per_run_step": asdict(counts),
        "share": {
            "flops": rate * counts.flops / peaks["flops_per_s"],
            "bytes": rate * counts.bytes / peaks["bytes_per_s"],
            "bytes_with_activations": rate * counts.bytes_with_activations / peaks["bytes_per_s"],
        },
    }
