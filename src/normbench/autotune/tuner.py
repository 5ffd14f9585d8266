"""Tuner: the width and layout of every stack of a sweep.

The user's words come first (`engine.lanes`, `engine.layout`, `engine.convolution`), then what was measured on
this machine, then the defaults. Memory bounds the width in any case.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import torch

from normbench.autotune import measurement, tuning_cache
from normbench.autotune.cores import thread_count
from normbench.autotune.cost import Cost, CostModel
from normbench.autotune.default_widths import default_width, first_width
from normbench.autotune.search import RunOnAll, next_to_measure, search
from normbench.autotune.tuning import Tuning, best_width, measured_widths
from normbench.autotune.workload import Workload, workload_of
from normbench.engine.stack_layout import default_layout
from normbench.errors import reason
from normbench.parts import trains_alone
from normbench.phrases import counted
from normbench.record import Record
from normbench.spec import RunSpec, trainings

#: A workload is measured only if its estimated training time is at least WORTH_S. The measurement takes at
#: most PART of that time, and at most MOST_S.
WORTH_S, PART, MOST_S = 120.0, 0.05, 15.0


class Tuner:
    """Finds the width, the layouts and the cost of every stack of a sweep.

    Args:
        cache:  the results' cache folder. Nothing is created there before something was measured.
        stacks: that train at the same time.
        ended:  gives the records of runs that have ended, for the cost of runs like them. It is called only
                if a cost is asked for that was not measured.
    """

    def __init__(self, cache: Path, stacks: int, ended: Callable[[], Iterable[Record]] = tuple) -> None:
        self.cache, self.stacks = cache, stacks
        self._costs = CostModel(ended)
        self._workloads: dict[str, Workload] = {}  # by stack key; several keys may share a workload

    def of(self, spec: RunSpec) -> Tuning:
        """The width and layouts of stacks of such runs.

        Raises:
            InputError: the run cannot be built as asked.
        """
        workload = self._workload(spec)
        if trains_alone(spec.model.name):
            source = f"because model {spec.model.name} has no lanes"
            return Tuning(1, source, default_layout(spec.engine, workload.device))
        fitting = workload.lanes_that_fit(self.stacks)
        known = measured_widths(workload.measurements, first_width(spec, fitting))
        if spec.engine.lanes != "auto":
            lanes, source = spec.engine.lanes, "as asked"
        elif known:
            lanes, source = best_width(known), f"as measured here {workload.day}"
        else:
            lanes, source = default_width(spec), "by default"
        if spec.engine.lanes == "auto" and fitting < lanes:
            lanes, source = fitting, "as memory allows"
        layout = default_layout(spec.engine, workload.device)
        return Tuning(lanes, source, layout, tuple(workload.measurements.values()))

    def capacity(self, spec: RunSpec) -> int:
        """The most lanes of a stack of such runs."""
        return self.of(spec).lanes

    def cost(self, specs: Sequence[RunSpec]) -> Cost:
        """The cost of training a stack.

        Args:
            specs: the runs of the stack.

        Raises:
            InputError: the runs cannot be built as asked.
        """
        return self._costs.cost(specs, self._workload(specs[0]))

    def seconds(self, specs: Sequence[RunSpec]) -> float:
        """Estimated seconds of training a stack."""
        return self.cost(specs).seconds

    def lane_bytes(self, spec: RunSpec) -> int:
        """Bytes of one lane of such runs, computed from shapes."""
        return self._workload(spec).lane_bytes

    def measure(self, stacks: Sequence[Sequence[RunSpec]], run_on_all: RunOnAll) -> Iterator[str]:
        """Measure the workloads that are not known yet, if their training is long enough; keep the results.

        Args:
            stacks:     the runs to train, in stacks as wide as the sweep has runs for them.
            run_on_all: runs a job in every process that will train.

        Yields:
            Messages for the user.
        """
        todo = self._to_measure(stacks)
        if todo:
            what = f"{len(todo)} kinds of stacks" if len(todo) > 1 else "a stack"
            yield f"measuring the best width of {what} on this machine; the next sweep remembers it"
        for workload, spec, most, seconds in todo:
            if self.stacks == 1:
                torch.set_num_threads(thread_count(spec))
            try:
                search(
                    spec, workload.shape, most, workload.measurements, run_on_all,
                    seconds=min(PART * seconds, MOST_S), room=partial(workload.lanes_that_fit, self.stacks),
                )  # fmt: skip
            except Exception as error:  # a failed measurement must not stop the sweep
                yield f"measuring {spec.model.name} with norm={spec.norm.name} failed: {reason(error)}"
            measurement.release_memory()
            if workload.measurements:
                workload.searched = most
                self._keep(workload)

    def lines(self, stacks: Sequence[Sequence[RunSpec]], widest: Sequence[Sequence[RunSpec]]) -> list[str]:
        """For a reader of a plan: the width and memory format of its stacks, and whether training measures.

        Args:
            stacks: of the plan.
            widest: the same runs in stacks as wide as the sweep has runs for them.
        """
        unknown = {workload.file for workload, *_ in self._to_measure(widest)}
        counts: Counter[str] = Counter()
        for specs in stacks:
            spec = specs[0]
            first = "; training measures first" if self._workload(spec).file in unknown else ""
            counts[f"{self.of(spec)}{first}"] += 1
        if len(counts) == 1:
            return list(counts)
        return [f"{counted(count, 'stack')}: {text}" for text, count in counts.items()]

    def _to_measure(self, stacks: Sequence[Sequence[RunSpec]]) -> list[tuple[Workload, RunSpec, int, float]]:
        """The workloads that are worth measuring.

        Each comes with one of its runs, the lanes of its widest stack, and the estimated seconds of training
        all of its runs.
        """
        guesses = [self._costs.guess(specs, self._workload(specs[0])) for specs in stacks]
        # PERF: the records of ended runs are not read for a sweep that is surely too short
        long = sum(guess.seconds * guess.factor for guess in guesses) / self.stacks >= WORTH_S
        found: dict[Path, tuple[Workload, RunSpec, int, float]] = {}
        for specs in stacks:
            spec, lanes = specs[0], len(trainings(specs))
            workload = self._workload(spec)
            *_, most, seconds = found.get(workload.file, (workload, spec, 0, 0.0))
            more = (self.seconds(specs) if long else 0.0) / self.stacks
            found[workload.file] = workload, spec, max(most, lanes), seconds + more
        return [
            (workload, spec, most, seconds)
            for workload, spec, most, seconds in found.values()
            if seconds >= WORTH_S
            and most > workload.searched
            and (room := workload.lanes_that_fit(self.stacks))
            and (next_to_measure(spec, workload.measurements, most, room) or math.inf) <= room
        ]

    def _workload(self, spec: RunSpec) -> Workload:
        key = spec.stack_key()
        if key not in self._workloads:
            made = workload_of(spec, self.cache, self.stacks)
            alike = (workload for workload in self._workloads.values() if workload.file == made.file)
            self._workloads[key] = next(alike, made)
        return self._workloads[key]

    def _keep(self, workload: Workload) -> None:
        """Write what was measured to the tuning cache."""
        workload.day = f"{datetime.now(UTC).astimezone():%Y-%m-%d}"
        tuning_cache.write(
            workload.file, workload.key, workload.measurements.values(), workload.searched, workload.day
        )
