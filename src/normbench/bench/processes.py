"""Processes that train at the same time, so that they compete for cores and memory as in a sweep.

On a CPU there is one process per core, with one thread each; on a GPU there is one process. An order goes to
all processes at the same time. The next order waits until all have answered.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import torch

from normbench.bench.clock import host_seconds, timed
from normbench.bench.phases import phases
from normbench.bench.plain import PlainLoop
from normbench.bench.roofline import probe
from normbench.data.dataset import Dataset
from normbench.engine.device import numerics
from normbench.engine.stack import Stack
from normbench.engine.stack_layout import StackLayout
from normbench.errors import RunFailure, reason
from normbench.spec import RunSpec
from normbench.sweeps.pool import WorkerPool

#: Steps whose host time is measured: so few that a GPU's queue of kernels does not fill.
HOST_STEPS = 3
#: Turns of a contestant that do not count: compilers and replays need more than one step to settle.
WARM_UPS = 3


@dataclass(frozen=True)
class Contestant:
    """One of those whose speeds are compared.

    Attributes:
        name:  in the results.
        loop:  "stack"; "plain" or "tuned", a plain loop of the first run; else the name of a probe.
        specs: the runs.
        layout: of a stack; None: the default one.
    """

    name: str
    loop: str
    specs: tuple[RunSpec, ...]
    layout: StackLayout | None = None


class Rig:
    """What one process holds: the contestants, ready to train, and the number of each one's next step."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.dataset: Dataset | None = None
        self.steps: dict[str, Callable[[int], object]] = {}
        self.stacks: dict[str, Stack] = {}
        self.next: dict[str, int] = {}

    def clear(self, dataset: Dataset | None) -> None:
        """Drop all contestants. The next ones train on the given data set."""
        for stack in self.stacks.values():
            stack.close()
        self.steps.clear()
        self.stacks.clear()
        self.next.clear()
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        self.dataset = dataset and dataset.to(self.device)

    def enter(self, contestant: Contestant, turn: float, most: float) -> str:
        """Build a contestant and let it take the turns that do not count.

        Args:
            turn: seconds of these turns together.
            most: seconds that a step may take.

        Returns:
            Why the contestant cannot take part: too little memory, a step that takes too long, or, for
            "tuned", any error of the compiler. "" if it can.

        Raises:
            Exception: any other error.
        """
        harmless = Exception if contestant.loop == "tuned" else torch.OutOfMemoryError
        name, engine = contestant.name, contestant.specs[0].engine
        try:
            with numerics(engine, self.device):
                self.steps[name], self.next[name] = self._built(contestant), 0
            done, passed = [self.time(contestant, turn / WARM_UPS) for _ in range(WARM_UPS)][-1]
        except harmless as error:
            why = reason(error)
        else:
            if passed <= most * done:
                return ""
            why = f"a step takes {passed / done:.1f} s"
        self.steps.pop(name, None)
        if stack := self.stacks.pop(name, None):
            stack.close()
        return why

    def time(self, contestant: Contestant, seconds: float) -> tuple[int, float]:
        """Let a contestant take steps for so many seconds: their number, and the seconds they took."""
        first = self.next[contestant.name]
        with numerics(contestant.specs[0].engine, self.device):
            done, passed = timed(self.steps[contestant.name], first, seconds, self.device)
        self.next[contestant.name] += done
        return done, passed

    def host(self, contestant: Contestant) -> float:
        """Seconds until the call of a step returns; the device may still be working."""
        first = self.next[contestant.name]
        self.next[contestant.name] += HOST_STEPS
        with numerics(contestant.specs[0].engine, self.device):
            return host_seconds(self.steps[contestant.name], first, HOST_STEPS, self.device)

    def phases(self, contestant: Contestant, seconds: float) -> dict[str, float]:
        """Seconds of a stack's step by phase; so many seconds of steps are timed."""
        assert self.dataset is not None
        with numerics(contestant.specs[0].engine, self.device):
            return phases(contestant.specs, self.dataset, self.device, seconds, contestant.layout)

    def _built(self, contestant: Contestant) -> Callable[[int], object]:
        spec = contestant.specs[0]
        if contestant.loop not in ("stack", "plain", "tuned"):
            return probe(contestant.loop, spec.engine, self.device)
        assert self.dataset is not None
        if contestant.loop == "stack":
            stack = Stack(contestant.specs, self.dataset, self.device, contestant.layout)
            self.stacks[contestant.name] = stack
            return stack.step
        return PlainLoop(spec, self.dataset, self.device, tuned=contestant.loop == "tuned")


class Processes:
    """A worker pool in which each worker holds a rig on a device. Use it as a context manager."""

    def __init__(self, count: int, device: torch.device) -> None:
        self.count, self.device = count, device

    def __enter__(self) -> Processes:
        self.pool = WorkerPool(self.count)
        return self

    def __exit__(self, *error: object) -> None:
        self.pool.close()

    def all(self, order: str, *args: Any) -> list[Any]:
        """Call a method of the rig in all processes at the same time; return every answer.

        Args:
            order: name of a method of `Rig`.
            args:  of that method.

        Raises:
            RunFailure: the method raised in a process, or a process died.
        """
        try:
            return self.pool.run_on_all(partial(_do, self.device, order, *args))
        except RunFailure as failure:
            raise RunFailure(
                f"the measurement failed: {failure}; if memory ran out, try fewer --lanes"
            ) from None

    def rate(self, contestant: Contestant, seconds: float) -> float:
        """Steps per second of a contestant, summed over all processes."""
        return float(sum(done / passed for done, passed in self.all("time", contestant, seconds)))


@cache
def _rig(device: torch.device) -> Rig:
    """The rig of this process."""
    return Rig(device)


def _do(device: torch.device, order: str, *args: Any) -> Any:
    return getattr(_rig(device), order)(*args)
