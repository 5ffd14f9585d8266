"""Runs that were asked for and have no record: one line that counts and names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from normbench.labels import label, settings, varying
from normbench.phrases import listed_seeds
from normbench.record import Record
from normbench.visible import visible

#: Configurations that the line names; of more it gives the count.
_NAMED = 8


def lines_on(missing: Sequence[Record], others: Sequence[Record]) -> list[str]:
    """A line on the missing runs, by what sets them apart, with their seeds; none if no run is missing.

    Args:
        missing: the runs without a record, as records without metrics.
        others:  the runs with a record.
    """
    if not missing:
        return []
    keys = varying([run.spec for run in (*missing, *others)])
    seeds: dict[str, list[int]] = {}
    for run in missing:
        name = settings(run.spec, keys) or f"norm={label(run.spec['norm']['name'])}"
        seeds.setdefault(name, []).append(run.spec["seed"])
    return line(seeds, len(missing) + len(others))


def line(seeds: Mapping[str, Sequence[int]], asked: int) -> list[str]:
    """The line from the seeds of the missing runs by configuration; none if no run is missing.

    Args:
        asked: number of runs asked for, the missing ones included.
    """
    if not seeds:
        return []
    named = [f"{visible(name)} ({listed_seeds(found)})" for name, found in seeds.items()]
    more = len(named) - _NAMED
    listed = ", ".join(named[:_NAMED]) + (f" and {more} more" if more > 0 else "")
    missing = sum(map(len, seeds.values()))
    return [f"{missing} of {asked} runs are missing: {listed}"]
