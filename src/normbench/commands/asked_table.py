"""The table that a reading command asks for, from the runs at hand: for `normbench table` and for Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from normbench.commands.asked_runs import AskedRuns
from normbench.conditions import quantity
from normbench.errors import InputError
from normbench.store import Store

if TYPE_CHECKING:
    from normbench.report.cells import Table
    from normbench.report.run_list import RunList


@dataclass(frozen=True)
class TableWords:
    """What a table shows; each field is the option of `normbench table` with the same name."""

    rows: str = "norm"
    cols: str = "batch"
    metric: str = "test_error"
    where: Sequence[str] = ()
    select: str = ""
    reference: Sequence[str] = ()
    baseline: str | None = None


def table_of(runs: AskedRuns, asked: TableWords, store: Store) -> Table:
    """Means over seeds of the runs.

    Raises:
        InputError: an unknown key or metric, a combination that cannot be shown, or no run to show.
    """
    from normbench.commands.ensembles import is_ensemble, with_ensembles
    from normbench.report.axes import METRIC
    from normbench.report.baseline import with_differences
    from normbench.report.images import with_images
    from normbench.report.mce import METRIC as MCE
    from normbench.report.mce import with_mce
    from normbench.report.tables import build_table, keys_of

    metrics = keys_of(asked.metric)
    alone = [name for name in metrics if is_ensemble(name) or quantity(name) == MCE]
    if len(metrics) > 1 and alone:
        raise InputError(f"{alone[0]} needs a table of its own; give it as the only metric")
    cols = asked.cols
    if len(metrics) > 1 and METRIC not in (*keys_of(asked.rows), *keys_of(cols)):
        cols = f"{cols},{METRIC}" if cols else METRIC
    records, notes = with_mce(runs.records, asked.metric, asked.reference)
    if is_ensemble(asked.metric):
        if asked.select:
            raise _of_groups(asked.metric)
        records = with_ensembles(store, records, asked.where)
    table = build_table(
        records, asked.rows, cols, asked.metric, asked.where,
        select=asked.select, skipped=runs.skipped, missing=runs.missing,
    )  # fmt: skip
    table = with_images(replace(table, notes=(*notes, *table.notes)), records)
    return table if asked.baseline is None else with_differences(table, asked.baseline)


def runs_of(runs: AskedRuns, asked: TableWords) -> RunList:
    """The runs that the table summarizes, one line each.

    Raises:
        InputError: as `table_of`.
    """
    from normbench.commands.ensembles import is_ensemble
    from normbench.report.mce import with_mce
    from normbench.report.run_list import list_runs

    if is_ensemble(asked.metric):
        raise _of_groups(asked.metric)
    records, _ = with_mce(runs.records, asked.metric, asked.reference)
    every = [*records, *runs.missing]
    return list_runs(every, asked.rows, asked.cols, asked.metric, asked.where, select=asked.select)


def _of_groups(metric: str) -> InputError:
    return InputError(f"{metric} belongs to a group of runs; leave out --runs and --select")
