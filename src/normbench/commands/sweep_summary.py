"""The summary of a sweep that trackers show: mean ± sd of every metric in every cell, and figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from normbench.labels import field, label
from normbench.record import COMPLETE, DIVERGED, FAILED, Record
from normbench.report.metrics import measured, number_format
from normbench.report.stats import summarize
from normbench.tracking.sweep_summary import SweepSummary, Value
from normbench.tracking.wandb_fields import cell

_NUMBERS = ("metric", "mean ± sd", "n", "mean", "sd", "ci95_low", "ci95_high", "diverged", "failed")


#: Draws the figures of some runs as PNG files, by their name.
Draw = Callable[[Sequence[Record]], Mapping[str, bytes]]


def sweep_summary(
    records: Sequence[Record], varying: Sequence[str], draw: Draw | None = None
) -> SweepSummary | None:
    """One row per cell and metric. The text of a mean has the units of our tables. The numbers are fractions.

    Diverged and failed runs are counted and never enter a mean. The rows of the test error come first,
    because trackers show a limited number.

    Args:
        records: of all runs of a sweep.
        varying: the fields in which they differ.
        draw:    draws the figures; None: there are none. If it fails, the summary says why.

    Returns:
        None if no run is complete.
    """
    complete = [record for record in records if record.status == COMPLETE]
    names = dict.fromkeys(name for record in complete for name in record.metrics)
    if not names:
        return None
    cells: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda record: str(record.provenance.get("asked", ""))):
        cells.setdefault(cell(record.spec, varying), []).append(record)
    rows: list[tuple[Value, ...]] = []
    for metric in dict.fromkeys(["test_error", *names, "train_s"]):
        for name, group in cells.items():
            settings = [label(field(group[0].spec, key)) for key in varying]
            lost = [sum(record.status == status for record in group) for status in (DIVERGED, FAILED)]
            runs = (record for record in group if record.status == COMPLETE)
            values = [value for record in runs if (value := measured(record, metric)) is not None]
            rows.append((name, *settings, metric, *_numbers(metric, values), *lost))
    return SweepSummary(("cell", *varying, *_NUMBERS), tuple(rows), *_figures(records, draw))


def _figures(records: Sequence[Record], draw: Draw | None) -> tuple[Mapping[str, bytes], str]:
    """The figures, and why they could not be drawn."""
    if draw is None:
        return {}, ""
    try:
        return draw(records), ""
    except Exception as error:  # figures never cost the table
        return {}, f"{type(error).__name__}: {' '.join(str(error).split())}"


def _numbers(metric: str, values: Sequence[float]) -> list[Value]:
    """mean ± sd as text, n, mean, sd, and the 95 % interval of the mean."""
    n, mean, sd, interval = summarize(values)
    if mean is None:
        return ["", n, None, None, None, None]
    form = number_format(metric, values, [mean])
    spread = "" if sd is None else f" ± {form(sd)}"
    return [f"{form(mean)}{spread} {form.unit}".strip(), n, mean, sd, *(interval or (None, None))]
