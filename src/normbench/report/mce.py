"""`table --metric mce --reference COND`: mean corruption error against a reference run.

    CE_c = Σ_s E(c, s) / Σ_s E_ref(c, s)        mCE = mean of CE_c over the corruption families c

E is the test error of a run, E_ref the mean test error over the seeds of the reference. Families are those of
the benchmark (`corruptions.STANDARD`). Families and severities are those that every reference run has.
`mce@adapt` takes E with the statistics of `adapt`. E_ref always has running statistics, so that a norm with
adaptation is compared with the same number as without.

Reference:  hendrycks2019 — Benchmarking Neural Network Robustness to Common Corruptions and Perturbations,
            ICLR 2019, arXiv:1903.12261, §4.2.
Deviations: the paper's reference is AlexNet, and its families and severities are fixed: 15 and 1 to 5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean

from normbench.conditions import quantity
from normbench.corruptions import SEVERITIES, STANDARD
from normbench.errors import InputError
from normbench.labels import label, material
from normbench.phrases import counted
from normbench.record import COMPLETE, Record
from normbench.report.metrics import measured
from normbench.report.selection import parse_condition, select

METRIC = "mce"

#: Family → names of test errors at its severities, without a source.
Names = Mapping[str, Sequence[str]]


def with_mce(
    records: Sequence[Record], metric: str, reference: Sequence[str]
) -> tuple[list[Record], tuple[str, ...]]:
    """Give every record its mean corruption error as a metric.

    A run that lacks one of the errors gets None. Any other metric without a reference changes nothing.

    Args:
        metric:    of the table: `mce`, or `mce@source`.
        reference: conditions such as `norm=bn`, all of which the reference runs meet.

    Returns:
        The records, and the lines to show under the table.

    Raises:
        InputError: one of metric and reference without the other; no reference run, several configurations of
            it, or no errors of it on corrupted images.
    """
    if quantity(metric) != METRIC:
        if reference:
            raise InputError(f"--reference belongs to --metric {METRIC}; got --metric {metric}")
        return list(records), ()
    if not reference:
        raise InputError(
            f"--metric {metric} divides by the errors of a reference run; "
            "give it, as in --reference norm=bn --reference batch=32"
        )
    runs = _runs(records, reference)
    names = _names(runs)
    below = {
        family: sum(fmean(_errors(run, name) for run in runs) for name in names[family]) for family in names
    }
    if zero := [family for family, total in below.items() if total == 0]:
        raise InputError(
            f"the reference has no errors under {', '.join(zero)}, so nothing can be divided by them"
        )
    source = metric.removeprefix(METRIC)
    added = [
        replace(record, metrics={**record.metrics, metric: _mce(record, names, below, source)})
        for record in records
    ]
    return added, (_note(runs, names, reference, source),)


def _runs(records: Sequence[Record], reference: Sequence[str]) -> list[Record]:
    """The complete runs of the reference: one configuration, any number of seeds."""
    if not records:
        raise InputError("there are no records; train some, or set NORMBENCH_RESULTS to their folder")
    admitted = select(records, [parse_condition(text) for text in reference])
    runs = [record for record in admitted if record.status == COMPLETE]
    said = " ".join(reference)
    if not runs:
        raise InputError(
            f"no run of the reference {said} has ended without a failure; give another --reference"
        )
    flat = [material(record.spec) for record in runs]
    differ = [
        key
        for key in dict.fromkeys(key for run in flat for key in run)
        if key != "data.path" and len({label(run.get(key)) for run in flat}) > 1
    ]
    if differ:
        raise InputError(
            f"--reference {said} must name one configuration; its runs differ in {', '.join(differ[:4])}"
            f"{', …' * (len(differ) > 4)}. Add conditions, such as --reference {differ[0]}="
            f"{label(flat[0].get(differ[0]))}"
        )
    return runs


def _names(runs: Sequence[Record]) -> dict[str, list[str]]:
    """Family → names of the test errors that every reference run has."""
    of_family = {
        family: [
            name
            for severity in SEVERITIES
            if all(measured(run, name := f"test_error/{family}:{severity}") is not None for run in runs)
        ]
        for family in STANDARD
    }
    names = {family: found for family, found in of_family.items() if found}
    if not names:
        raise InputError(
            "the reference has no test errors on corrupted images; "
            "repeat its command with eval.corruptions=[all:1-5]"
        )
    return names


def _errors(record: Record, name: str) -> float:
    error = measured(record, name)
    assert error is not None  # `_names` has those alone that every run has
    return error


def _mce(record: Record, names: Names, below: Mapping[str, float], source: str) -> float | None:
    ratios = []
    for family, own in names.items():
        errors = [measured(record, name + source) for name in own]
        known = [error for error in errors if error is not None]
        if len(known) < len(errors):
            return None
        ratios.append(sum(known) / below[family])
    return fmean(ratios)


def _note(runs: Sequence[Record], names: Names, reference: Sequence[str], source: str) -> str:
    severities = {", ".join(name.rpartition(":")[2] for name in own) for own in names.values()}
    at = severities.pop() if len(severities) == 1 else "as the reference has them"
    families = ", ".join(names) if len(names) < len(STANDARD) else f"all {len(STANDARD)} families"
    return (
        f"{METRIC}{source}: test error divided by the reference's; mean over {families}, severities {at}. "
        f"Reference: mean of {counted(len(runs), 'run')} with {' '.join(reference)}, running statistics."
    )
