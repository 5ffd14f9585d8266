"""What a plan will cost on this machine: time from runs like these that have ended here, memory from the
shapes.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from normbench.record import Record
from normbench.spec import RunSpec
from normbench.store import Store
from normbench.sweeps.plan import Plan

#: What runs must share for one to tell how long a step of the other takes, the closest likeness first.
_LIKENESS = (
    ("model", "norm", "weight", "placement", "data", "optim.name", "batch", "workers"),
    ("model", "data", "batch", "workers"),
)


@dataclass(frozen=True)
class Estimate:
    """Seconds until all is trained (None where nothing like some of the runs has ended here), bytes of the
    largest stack, and how many stacks train at a time.
    """

    seconds: float | None
    memory: int
    processes: int

    def lines(self) -> list[str]:
        """For a reader of the plan."""
        at_once = f", {self.processes} stacks at a time" if self.processes > 1 else ""
        memory = f"about {self.memory / 2**20:,.0f} MiB for the largest stack{at_once}"
        if self.seconds is None:
            return ["no estimate of the time: nothing like some of these runs has ended here", memory]
        minutes, seconds = divmod(round(self.seconds), 60)
        return [f"about {minutes} min {seconds:02d} s, going by runs that have ended here", memory]


def estimate(plan: Plan, store: Store, processes: int) -> Estimate:
    """Estimate a plan; reads records and shapes, and trains nothing.

    Raises:
        InputError: a run that cannot be built as asked.
    """
    from normbench import models
    from normbench.data.shapes import shape_of

    processes = min(processes, len(plan.packs))
    ended = [record for record in store.records() if record.timing.get("steps_per_s")]
    seconds, memory = 0.0, 0
    known = True
    for pack in plan.packs:
        spec, lanes = pack.specs[0], len(pack.trainings)
        shape = models.fitted(spec, shape_of(spec.data, store.root / "cache"))
        memory = max(memory, lanes * models.footprint(spec, shape))
        per_step = _seconds_per_step(spec, ended)
        known = known and per_step is not None
        seconds += lanes * spec.length(shape.train_images) * (per_step or 0.0)
    return Estimate(seconds / max(processes, 1) if known else None, memory, processes)


def _seconds_per_step(spec: RunSpec, ended: Iterable[Record]) -> float | None:
    """A lane's share of its stack's time for one step: the median over the runs most like this one."""
    mine = spec.model_dump(mode="json")
    for keys in _LIKENESS:
        wanted = [_field(mine, key) for key in keys]
        alike = [r for r in ended if [_field(r.spec, key) for key in keys] == wanted]
        if alike:
            return statistics.median(map(_lane_step, alike))
    return None


def _lane_step(record: Record) -> float:
    """Seconds that one step of one lane took."""
    steps: float = record.timing["steps_per_s"] * record.timing["train_s"]
    lanes: int = record.provenance["stack_size"]
    return record.timing["stack_s"] / lanes / steps


def _field(spec: dict[str, Any], key: str) -> Any:
    node: Any = spec
    for part in key.split("."):
        node = node[part]
    return {k: v for k, v in node.items() if k not in ("momentum", "eps")} if isinstance(node, dict) else node
