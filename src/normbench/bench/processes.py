"""Processes that train in step, so that cores and memory are contended for as in a sweep.

On a CPU one process of one thread stands on every core, on a GPU one drives it all. An order goes to all of
them within moments, and the next one when the last of them has answered.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch

from normbench.bench.clock import timed
from normbench.bench.phases import phases
from normbench.bench.plain import PlainLoop
from normbench.bench.roofline import probe
from normbench.data.dataset import Dataset
from normbench.engine.device import numerics
from normbench.engine.stack import Stack
from normbench.errors import RunFailure, reason
from normbench.spec import RunSpec
from normbench.sweeps.pool import WorkerPool

#: Times that a contestant is run before it counts: compilers and CUDA graphs do not settle at the first step.
WARM_UPS = {"cpu": 1, "cuda": 3}


@dataclass(frozen=True)
class Contestant:
    """What is timed against others.

    Attributes:
        name:  what it is called in the results.
        kind:  "stack"; "plain" or "tuned", a plain loop of the first run; else the name of a probe.
        specs: the runs.
    """

    name: str
    kind: str
    specs: tuple[RunSpec, ...]


class Rig:
    """What one process holds: the contestants, built and warm, and the numbers of their next steps."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.dataset: Dataset | None = None
        self.steps: dict[str, Callable[[int], object]] = {}
        self.next: dict[str, int] = {}

    def clear(self, dataset: Dataset | None) -> None:
        """Let all contestants go; those to come train on a data set."""
        self.steps.clear()
        self.next.clear()
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.dataset = dataset and dataset.to(self.device)

    def enter(self, contestant: Contestant, turn: float, most: float) -> str:
        """Build a contestant and warm it up for a turn of so many seconds; why it cannot take part, or empty.

        Memory that does not suffice is a result, and so are a compiler that is absent and a step that takes
        longer than `most` seconds. Anything else raises.
        """
        harmless = Exception if contestant.kind == "tuned" else torch.OutOfMemoryError
        name, engine = contestant.name, contestant.specs[0].engine
        warm_ups = WARM_UPS["cuda" if engine.compile else self.device.type]
        try:
            self.steps[name], self.next[name] = self._built(contestant), 0
            done, passed = [self.time(contestant, turn / warm_ups) for _ in range(warm_ups)][-1]
        except harmless as error:
            why = reason(error)
        else:
            if passed <= most * done:
                return ""
            why = f"a step takes {passed / done:.1f} s"
        self.steps.pop(name, None)
        return why

    def time(self, contestant: Contestant, seconds: float) -> tuple[int, float]:
        """Let a contestant take steps for so many seconds: how many, and how long they took."""
        first = self.next[contestant.name]
        with numerics(contestant.specs[0].engine):
            done, passed = timed(self.steps[contestant.name], first, seconds, self.device)
        self.next[contestant.name] += done
        return done, passed

    def phases(self, contestant: Contestant, seconds: float) -> dict[str, float]:
        """Where the time of a stack's step goes, of steps that take so many seconds together."""
        assert self.dataset is not None
        with numerics(contestant.specs[0].engine):
            return phases(contestant.specs, self.dataset, self.device, seconds)

    def _built(self, contestant: Contestant) -> Callable[[int], object]:
        spec = contestant.specs[0]
        if contestant.kind not in ("stack", "plain", "tuned"):
            return probe(contestant.kind, spec.engine, self.device)
        assert self.dataset is not None
        if contestant.kind == "stack":
            return Stack(contestant.specs, self.dataset, self.device).step
        return PlainLoop(spec, self.dataset, self.device, tuned=contestant.kind == "tuned")


class Processes:
    """A worker pool in which each worker holds a rig, on a device. To be used as a context."""

    def __init__(self, count: int, device: torch.device) -> None:
        self.count, self.device = count, device

    def __enter__(self) -> Processes:
        self.pool = WorkerPool(self.count)
        return self

    def __exit__(self, *error: object) -> None:
        self.pool.close()

    def all(self, order: str, *args: Any) -> list[Any]:
        """Let the rigs of all processes do something, a method of `Rig`, at the same time; their answers.

        Raises:
            RunFailure: one of them broke.
        """
        try:
            return self.pool.run_on_all(partial(_do, self.device, order, *args))
        except RunFailure as failure:
            raise RunFailure(
                f"the measurement broke: {failure}; if it was for want of memory, try fewer --lanes"
            ) from None

    def rate(self, contestant: Contestant, seconds: float) -> float:
        """Steps per second of a contestant, of all processes together."""
        return float(sum(done / passed for done, passed in self.all("time", contestant, seconds)))


@cache
def _rig(device: torch.device) -> Rig:
    """The rig of this process."""
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    return Rig(device)


def _do(device: torch.device, order: str, *args: Any) -> Any:
    return getattr(_rig(device), order)(*args)
