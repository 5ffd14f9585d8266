"""The smallest difference that the seeds of a table can see."""

from __future__ import annotations

import math
from itertools import combinations
from statistics import median, stdev

from normbench.report.cells import Table
from normbench.report.contrasts import paired
from normbench.report.power import POWER, detectable


def sensitivity(table: Table, level: float) -> list[str]:
    """A line on the smallest true difference that a paired t-test finds with power POWER.

    The number of seeds is that of most cells. The standard deviation is the median over all pairs of rows in
    a column, differences paired by seed. There is one line per metric, and none without pairs or a spread.

    Args:
        level: one-sided.
    """
    spreads: dict[str, list[float]] = {}
    for col in table.col_labels:
        column = [table.cells[row, col] for row in table.row_labels if (row, col) in table.cells]
        for a, b in combinations(column, 2):
            first, second = a.by_seed(), b.by_seed()
            metric = table.metric_at(a.row, col)
            if first is None or second is None or metric != table.metric_at(b.row, col):
                continue
            differences = paired(first, second)
            if len(differences) > 1 and all(map(math.isfinite, differences)):
                spreads.setdefault(metric, []).append(stdev(differences))
    if table.typical_n < 2:
        return []
    typical = {metric: median(found) for metric, found in spreads.items()}
    return [_line(table, metric, table.typical_n, sd, level) for metric, sd in typical.items() if sd]


def _line(table: Table, metric: str, n: int, sd: float, level: float) -> str:
    found = detectable(n, sd, level)
    assert found is not None
    form = table.formats()[metric]
    size = f"{form(found)} points" if form.unit == "%" else form(found)
    of = f" of {metric}" if len(table.metrics) > 1 else ""
    return (
        f"With {n} seeds a paired test can see differences{of} of {size} or more (power {POWER:.0%}, "
        f"one-sided level {level:.2g}, median sd of the differences {form(sd)})."
    )
