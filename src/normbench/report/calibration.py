"""Reliability of predicted probabilities over runs: share of hits against confidence, bin by bin.

The table `test_reliability` of a record has one row per bin: images, mean confidence, share of hits.
Reference: guo2017 — On Calibration of Modern Neural Networks, ICML 2017, arXiv:1706.04599, equation 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from normbench.errors import unknown
from normbench.record import COMPLETE, DIVERGED, FAILED, Record, Table
from normbench.report.axes import JOINT, knobs_to_name, ordered, parts
from normbench.report.selection import Condition, check_keys, select
from normbench.report.stats import EMPTY, Summary, summarize


class Bin(NamedTuple):
    """A bin over runs: mean confidence, and the shares of hits of the runs that have images in it."""

    confidence: float
    hits: Summary


@dataclass(frozen=True)
class Reliability:
    """The runs of one cell.

    Attributes:
        label: values of the keys.
        bins:  those with images, by confidence.
        ece:   expected calibration error over runs: Σ n_b/n |hits_b − confidence_b|.
        lost:  number of runs without the table, by what became of them.
        asked: number of runs asked for.
    """

    label: str
    bins: tuple[Bin, ...] = ()
    ece: Summary = EMPTY
    lost: Mapping[str, int] | None = None
    asked: int = 0

    def remarks(self) -> str:
        """What became of the runs that are not shown, in words; empty if none was lost."""
        return ", ".join(f"{count}/{self.asked} {word}" for word, count in (self.lost or {}).items() if count)


def reliabilities(
    records: Sequence[Record],
    keys: Sequence[str],
    name: str = "test_reliability",
    *,
    conditions: Sequence[Condition] = (),
    missing: Sequence[Record] = (),
) -> tuple[Reliability, ...]:
    """Arrange the reliability tables of runs by the values of keys, in the order of tables.

    Args:
        name: of the table; `test_reliability@batch` is that by the statistics of the batch.

    Raises:
        InputError: an unknown key, no run to show, or no run with that table.
    """
    check_keys(records, keys)
    records = select(records, conditions)
    missing = [run for run in missing if all(condition.admits(run) for condition in conditions)]
    known = {table for run in records for table in run.tables if "_reliability" in table}
    if name not in known:
        remedy = "finished runs get it from train with the same words and eval.metrics=[reliability]"
        raise unknown("reliability table", name, known, remedy=remedy)
    every = [*records, *missing]
    knobs = knobs_to_name(every, keys, ())
    cells: dict[str, list[Record]] = {label: [] for label in ordered(every, keys, conditions, knobs).labels}
    for run in every:
        cells[JOINT.join(parts(run, keys, knobs))].append(run)
    return tuple(_cell(label, runs, name) for label, runs in cells.items())


def _cell(label: str, runs: Sequence[Record], name: str) -> Reliability:
    complete = [run for run in runs if run.status == COMPLETE]
    tables = [table for run in complete if (table := run.tables.get(name)) is not None]
    lost = {
        "diverged": sum(run.status == DIVERGED for run in runs),
        "failed": sum(run.status == FAILED for run in runs),
        "no value": len(complete) - len(tables),
        "missing": sum(run.status not in (COMPLETE, DIVERGED, FAILED) for run in runs),
    }
    bins = []
    for rows in zip(*tables, strict=False):
        filled = [row for row in rows if row[0] and None not in row]
        if filled:
            confidence = sum(row[1] for row in filled) / len(filled)
            bins.append(Bin(confidence, summarize([row[2] for row in filled])))
    return Reliability(label, tuple(bins), summarize([_ece(table) for table in tables]), lost, len(runs))


def _ece(table: Table) -> float:
    filled = [row for row in table if row[0] and None not in row]
    total = sum(row[0] for row in filled)
    return float(sum(count * abs(hits - confidence) for count, confidence, hits in filled) / total)
