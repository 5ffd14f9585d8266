"""One function per kind of claim: from the values of cells to a finding."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from statistics import fmean
from typing import Any

from normbench.papers.claim_cells import Places, cell, cells_of, in_words, largest, logs, ordered
from normbench.papers.claim_kinds import (
    Best,
    ClaimBase,
    Diverges,
    Flat,
    Greater,
    InteriorMinimum,
    Ratio,
    Rises,
    Worst,
)
from normbench.papers.findings import Conjunction, Finding, NoVerdict, either
from normbench.papers.measurements import Measurements, amount
from normbench.papers.places import matching
from normbench.report.contrasts import against, paired
from normbench.report.metrics import NumberFormat, direction


def judge(claim: ClaimBase, runs: Measurements, places: Places) -> Finding:
    """The finding on a claim.

    Args:
        places: the cells of the table that are shown, in the order of the file.

    Raises:
        NoVerdict: runs of its cells are missing, failed, diverged or have no value that counts.
    """
    return _JUDGES[type(claim)](claim, runs, places)


def _greater(claim: Greater, runs: Measurements, places: Places) -> Finding:
    (a, first), (b, second) = (cell(claim, runs, places, place) for place in (claim.a, claim.b))
    contrast = against(paired(first, second), claim.margin, claim.test)
    form = runs.form(runs.metrics_of(claim, claim.a)[0], [first, second])
    evidence = (
        f"{a}: {amount(first, form)}, {b}: {amount(second, form)}; "
        f"difference {_difference(contrast.mean, contrast.interval, form)}, "
        f"claimed ≥ {points(claim.margin, form)}"
    )
    return Conjunction((contrast,)).finding(contrast.mean, contrast.interval, evidence)


def _ratio(claim: Ratio, runs: Measurements, places: Places) -> Finding:
    if claim.largest is None:
        (a, first), (b, second) = (cell(claim, runs, places, place) for place in (claim.a, claim.b))
        form = runs.form(runs.metrics_of(claim, claim.a)[0], [first, second])
    else:
        first, second = (largest(claim, claim.largest, runs, places, at) for at in (claim.a, claim.b))
        a, b = (f"largest {claim.largest.along} of {in_words(place)}" for place in (claim.a, claim.b))
        form = NumberFormat(1.0, ".4g", "")
    one, other = logs(first, a), logs(second, b)
    contrast = against(paired(one, other), math.log(claim.factor), claim.test)
    estimate = None if contrast.mean is None else _exp(contrast.mean)
    interval = contrast.interval and (_exp(contrast.interval[0]), _exp(contrast.interval[1]))
    between = "" if not interval else f" [{interval[0]:.3g}, {interval[1]:.3g}]"
    evidence = (
        f"{a}: {amount(first, form)}, {b}: {amount(second, form)}; "
        f"ratio {'unbounded' if estimate is None else f'{estimate:.3g}'}{between}, "
        f"claimed ≥ {claim.factor:g}"
    )
    return Conjunction((contrast,)).finding(estimate, interval or None, evidence)


def _flat(claim: Flat, runs: Measurements, places: Places) -> Finding:
    cells = cells_of(claim, runs, places, claim.where)
    pairs = [
        (against(paired(one, other), -claim.margin, claim.test), a, b)
        for (a, one), (b, other) in permutations(cells, 2)
    ]
    widest, low, high = min(pairs, key=lambda each: -math.inf if each[0].mean is None else each[0].mean)
    spread = None if widest.mean is None else -widest.mean
    interval = widest.interval and (-widest.interval[1], -widest.interval[0])
    form = runs.form(runs.metrics_of(claim, claim.where)[0], [values for _, values in cells])
    by_name = dict(cells)
    evidence = (
        f"lowest {low}: {amount(by_name[low], form)}, highest {high}: {amount(by_name[high], form)}; "
        f"spread {_difference(spread, interval, form)}, claimed ≤ {points(claim.margin, form)}"
    )
    return Conjunction(tuple(each[0] for each in pairs)).finding(spread, interval, evidence)


def _rises(claim: Rises, runs: Measurements, places: Places) -> Finding:
    cells = ordered(claim, runs, places)
    seeds = sorted(set.intersection(*(set(values) for _, values in cells)))
    rows = [[values[seed] for _, values in cells] for seed in seeds]
    if not all(math.isfinite(value) for row in rows for value in row):
        raise NoVerdict("diverged runs have no trend; a claim may count them as chance")
    centre = (len(cells) - 1) / 2
    scale = (len(cells) - 1) / sum((place - centre) ** 2 for place in range(len(cells)))
    trends = [scale * sum((j - centre) * value for j, value in enumerate(row)) for row in rows]
    contrast = against(trends, claim.margin, claim.test)
    p_order = _page(rows)
    form = runs.form(runs.metrics_of(claim, claim.where)[0], [values for _, values in cells])
    evidence = (
        f"{', '.join(f'{name}: {amount(values, form)}' for name, values in cells)}; trend from first to last "
        f"{_difference(contrast.mean, contrast.interval, form)}, claimed ≥ {points(claim.margin, form)}; "
        f"Page's test p = {p_order:.2g}"
    )
    finding = Conjunction((contrast,)).finding(contrast.mean, contrast.interval, evidence)
    return _with_support(finding, max(finding.p_support, p_order))


def _interior_minimum(claim: InteriorMinimum, runs: Measurements, places: Places) -> Finding:
    (first, low), *inner, (last, high) = ordered(claim, runs, places)
    alternatives = [
        Conjunction(tuple(against(paired(end, values), claim.margin, claim.test) for end in (low, high)))
        for _, values in inner
    ]
    lowest, values = min(inner, key=lambda each: fmean(each[1].values()))
    form = runs.form(runs.metrics_of(claim, claim.where)[0], [low, values, high])
    gaps = [fmean(end.values()) - fmean(values.values()) for end in (low, high)]
    estimate = min(gaps) if all(map(math.isfinite, gaps)) else None
    evidence = (
        f"ends {first}: {amount(low, form)}, {last}: {amount(high, form)}; lowest inside {lowest}: "
        f"{amount(values, form)}; smaller gap {_difference(estimate, None, form)}, "
        f"claimed ≥ {points(claim.margin, form)}"
    )
    return either(alternatives, estimate, evidence)


def _extreme(claim: Best | Worst, runs: Measurements, places: Places) -> Finding:
    metric = runs.metrics_of(claim, claim.cell)[0]
    name, own = cell(claim, runs, places, claim.cell)
    others = [each for each in cells_of(claim, runs, places, claim.among) if each[0] != name]
    better = {"less": -1, "more": 1, None: direction(metric)}[claim.better]
    if not better:
        raise NoVerdict(f"whether less or more {metric} is better is not known; the claim may say better")
    ahead = better if isinstance(claim, Best) else -better
    found = [
        (against(paired(own, other) if ahead > 0 else paired(other, own), claim.margin, claim.test), rival)
        for rival, other in others
    ]
    nearest, rival = min(found, key=lambda each: math.inf if each[0].mean is None else each[0].mean)
    form = runs.form(metric, [own, *(values for _, values in others)])
    word = "ahead of" if isinstance(claim, Best) else "behind"
    evidence = (
        f"{name}: {amount(own, form)}; nearest {rival}: {amount(dict(others)[rival], form)}; {word} it by "
        f"{_difference(nearest.mean, nearest.interval, form)}, claimed ≥ {points(claim.margin, form)}"
    )
    contrasts = tuple(contrast for contrast, _ in found)
    return Conjunction(contrasts).finding(nearest.mean, nearest.interval, evidence)


def _diverges(claim: Diverges, runs: Measurements, places: Places) -> Finding:
    from scipy.stats import binomtest

    counts = [runs.diverged(texts) for texts in matching(places, claim.where)]
    broken, n = sum(count for count, _ in counts), sum(of for _, of in counts)
    more, less = (binomtest(broken, n, claim.share, alternative=way) for way in ("greater", "less"))
    between = binomtest(broken, n).proportion_ci(0.95, "exact")
    interval = (float(between.low), float(between.high))
    evidence = (
        f"{broken} of {n} runs diverged [{interval[0]:.0%}, {interval[1]:.0%}], claimed ≥ {claim.share:.0%}"
    )
    return Finding(float(more.pvalue), float(less.pvalue), broken / n, interval, n, evidence)


_JUDGES: Mapping[type[ClaimBase], Callable[[Any, Measurements, Places], Finding]] = {
    Greater: _greater,
    Ratio: _ratio,
    Flat: _flat,
    Rises: _rises,
    InteriorMinimum: _interior_minimum,
    Best: _extreme,
    Worst: _extreme,
    Diverges: _diverges,
}


def points(value: float, form: NumberFormat) -> str:
    """A difference in words."""
    return f"{form(value)} points" if form.unit == "%" else form(value)


def _difference(value: float | None, interval: tuple[float, float] | None, form: NumberFormat) -> str:
    if value is None:
        return "unbounded"
    between = f" [{form(interval[0])}, {form(interval[1])}]" if interval else ""
    return f"{form(value)}{between} points" if form.unit == "%" else f"{form(value)}{between}"


def _page(rows: Sequence[Sequence[float]]) -> float:
    """p of Page's trend test: within seeds, values rise in the order of the cells; 1 for fewer than 2 seeds.

    Reference: Page 1963, Ordered Hypotheses for Multiple Treatments.
    """
    if len(rows) < 2:
        return 1.0
    from scipy.stats import page_trend_test

    k = len(rows[0])
    return float(f"{page_trend_test(rows, predicted_ranks=range(1, k + 1)).pvalue:.12g}")


def _with_support(finding: Finding, p: float) -> Finding:
    return replace(finding, p_support=p)


def _exp(value: float) -> float:
    return float(f"{math.exp(value):.12g}") if value < 700 else math.inf
