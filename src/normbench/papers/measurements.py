"""The values of a table's cells by seed, for claims: which metric, and how runs without a value count."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from statistics import fmean, stdev

from normbench.labels import field
from normbench.papers.claim_kinds import ClaimBase
from normbench.papers.findings import NoVerdict
from normbench.papers.places import Place, Texts
from normbench.record import COMPLETE, DIVERGED, FAILED, Record
from normbench.report.axes import JOINT, METRIC, parts
from normbench.report.metrics import NumberFormat, direction, measured, number_format

Values = Mapping[int, float]


class Measurements:
    """The runs of a table at a scale.

    Args:
        records: of its runs; with arms, as `grids.labelled` makes them.
        rows:    row keys without `metric`; cols likewise.
        metric:  that of a claim that names none.
        asked:   the seeds of each cell that should have runs, by its texts in the order of the keys.
        partial: judge with the runs that there are.
    """

    def __init__(
        self,
        records: Sequence[Record],
        rows: Sequence[str],
        cols: Sequence[str],
        metric: str,
        asked: Mapping[tuple[str, ...], Collection[int]],
        *,
        partial: bool = False,
    ) -> None:
        self.rows, self.cols, self.metric = tuple(rows), tuple(cols), metric
        self._asked, self._partial = asked, partial
        self._cells: dict[tuple[str, ...], list[Record]] = {}
        for record in sorted(records, key=lambda record: (record.spec["seed"], record.signature)):
            self._cells.setdefault(parts(record, (*rows, *cols)), []).append(record)

    def with_seeds(self, asked: Mapping[tuple[str, ...], Collection[int]]) -> Measurements:
        """The same runs, restricted to some seeds of each cell."""
        records = [
            r for cell, runs in self._cells.items() for r in runs if r.spec["seed"] in asked.get(cell, ())
        ]
        return Measurements(records, self.rows, self.cols, self.metric, asked, partial=self._partial)

    def metrics_of(self, claim: ClaimBase, place: Place | Texts = {}) -> tuple[str, ...]:  # noqa: B006
        """The metrics whose mean is the value of a run."""
        if METRIC in place:
            return (str(place[METRIC]),)
        if claim.metric is None:
            return (self.metric,)
        return (claim.metric,) if isinstance(claim.metric, str) else claim.metric

    def name(self, texts: Texts, metric: str = "") -> str:
        """A cell in words: `bn at 2`, with the metric if one is given."""
        rows, cols = (JOINT.join(texts[key] for key in keys) for keys in (self.rows, self.cols))
        named = " at ".join(part for part in (rows, cols) if part)
        return f"{named} ({metric})" if named and metric else named or metric

    def values(self, claim: ClaimBase, texts: Texts, place: Place | Texts = {}) -> dict[int, float]:  # noqa: B006
        """The value of every run of a cell, by seed. A value is infinite if a diverged run counts as worst.

        Raises:
            NoVerdict: runs of the cell are missing, failed, or have no value that counts.
        """
        metrics = self.metrics_of(claim, place)
        runs = self._whole(texts)
        found: dict[int, float] = {}
        lost: dict[str, int] = {}
        for seed, run in runs.items():
            numbers = [_number(claim, run, metric) for metric in metrics]
            known = [number for number in numbers if number is not None]
            if len(known) == len(numbers):
                found[seed] = fmean(known) if all(map(math.isfinite, known)) else sum(known)
            else:
                how = "diverged" if run.status == DIVERGED else f"have no {', '.join(metrics)}"
                lost[how] = lost.get(how, 0) + 1
        if lost:
            said = "; ".join(f"{count} of {len(runs)} runs of {self.name(texts)} {how}"
                             for how, count in lost.items())  # fmt: skip
            raise NoVerdict(said)
        return found

    def diverged(self, texts: Texts) -> tuple[int, int]:
        """How many runs of a cell diverged, and how many there are.

        Raises:
            NoVerdict: runs are missing or failed.
        """
        runs = self._whole(texts).values()
        return sum(run.status == DIVERGED for run in runs), len(runs)

    def reaches(self, texts: Texts, metric: str, below: float) -> dict[int, bool]:
        """Whether each run of a cell ends with the metric at most `below`; a diverged run does not.

        Raises:
            NoVerdict: runs are missing or failed, or a complete run has no such metric.
        """
        found = {}
        for seed, run in self._whole(texts).items():
            value = measured(run, metric) if run.status == COMPLETE else math.inf
            if value is None:
                raise NoVerdict(f"a run of {self.name(texts)} has no {metric}")
            found[seed] = value <= below
        return found

    def form(self, metric: str, values: Sequence[Values]) -> NumberFormat:
        """How the numbers of some cells are written."""
        finite = [number for each in values for number in each.values() if math.isfinite(number)]
        return number_format(metric, finite, [fmean(finite)] if finite else [])

    def _whole(self, texts: Texts) -> dict[int, Record]:
        """The runs of a cell by seed, if all that were asked for have ended well."""
        key = tuple(texts[each] for each in (*self.rows, *self.cols))
        runs, name = self._cells.get(key, []), self.name(texts)
        if not runs:
            raise NoVerdict(f"no run of {name}")
        by_seed = {run.spec["seed"]: run for run in runs}
        if len(by_seed) < len(runs):
            raise NoVerdict(f"{name} has several runs of one seed, so that nothing can be paired")
        failed = [seed for seed, run in by_seed.items() if run.status == FAILED]
        missing = {*self._asked.get(key, ())} - by_seed.keys()
        if self._partial:
            kept = {seed: run for seed, run in by_seed.items() if seed not in failed}
            if not kept:
                raise NoVerdict(f"all runs of {name} failed")
            return kept
        if failed:
            raise NoVerdict(f"{len(failed)} of {len(runs)} runs of {name} failed")
        if missing:
            raise NoVerdict(f"{len(missing)} of {len(runs) + len(missing)} runs of {name} are missing")
        return by_seed


def amount(values: Values, form: NumberFormat) -> str:
    """Mean and sd of the runs of a cell in words."""
    finite = [number for number in values.values() if math.isfinite(number)]
    if len(finite) < len(values):
        return f"{len(values) - len(finite)} of {len(values)} diverged"
    spread = f" ± {form(stdev(finite))}" if len(finite) > 1 else ""
    return f"{form(fmean(finite))}{spread} {form.unit}".rstrip()


def _number(claim: ClaimBase, run: Record, metric: str) -> float | None:
    """The value of a run, as the claim counts it; None if it has none that counts."""
    if run.status == DIVERGED:
        if claim.diverged == "chance" and metric.partition("@")[0].partition("/")[0].endswith("_error"):
            return claim.chance
        return -direction(metric) * math.inf if claim.diverged == "diverges" and direction(metric) else None
    value = measured(run, metric)
    if value is None and metric.startswith("steps_to_") and claim.unreached == "length":
        steps = field(run.spec, "steps")
        return None if steps is None else float(steps)
    return value
