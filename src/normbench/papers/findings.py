"""What the runs say about one claim: p-values for and against it, and the comparisons behind them.

A claim is a conjunction of comparisons "the mean difference is at least the margin". It is supported if every
comparison is (intersection-union test: the largest p counts, without correction), and refuted if one is
refuted (the smallest p counts, times the number of comparisons).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from normbench.report.contrasts import Contrast

#: A finding may also be a number without comparisons, such as the share of diverged runs.
Interval = tuple[float, float] | None


class NoVerdict(Exception):
    """Runs are missing, failed or diverged, so that a claim cannot be judged. The message says which."""


@dataclass(frozen=True)
class Finding:
    """The evidence on one claim. Both p-values are one-sided, before any correction over claims.

    p_support: small if the runs speak for the claim. p_refute: small if they speak against it.
    estimate:  what the claim is about: a difference, a ratio, a share; None if it is infinite.
    interval:  its 95 % interval; None if there is none.
    n:         number of seeds, or of runs for a share.
    evidence:  the numbers, in words.
    weakest:   the comparison on which support hangs; None without comparisons.
    contrary:  the comparison that speaks most against the claim.
    tests:     number of comparisons among which `contrary` was chosen.
    """

    p_support: float
    p_refute: float
    estimate: float | None
    interval: Interval
    n: int
    evidence: str
    weakest: Contrast | None = None
    contrary: Contrast | None = None
    tests: int = 1

    @property
    def margin(self) -> float | None:
        return None if self.weakest is None else self.weakest.margin


@dataclass(frozen=True)
class Conjunction:
    """Comparisons that must all hold."""

    contrasts: tuple[Contrast, ...]

    @property
    def p_support(self) -> float:
        return max(each.p_above for each in self.contrasts)

    @property
    def p_refute(self) -> float:
        return min(1.0, len(self.contrasts) * min(each.p_below for each in self.contrasts))

    @property
    def weakest(self) -> Contrast:
        return max(self.contrasts, key=lambda each: (each.p_above, _short_of_margin(each)))

    @property
    def contrary(self) -> Contrast:
        return min(self.contrasts, key=lambda each: (each.p_below, -_short_of_margin(each)))

    @property
    def n(self) -> int:
        return min(each.n for each in self.contrasts)

    def finding(self, estimate: float | None, interval: Interval, evidence: str) -> Finding:
        return Finding(
            self.p_support, self.p_refute, estimate, interval, self.n, evidence, self.weakest, self.contrary,
            len(self.contrasts),
        )  # fmt: skip


def either(alternatives: Sequence[Conjunction], estimate: float | None, evidence: str) -> Finding:
    """The finding on "at least one of the conjunctions holds".

    Support takes the smallest p times their number (Bonferroni). Refutation needs all of them refuted.
    """
    best = min(alternatives, key=lambda each: each.p_support)
    return Finding(
        min(1.0, len(alternatives) * best.p_support),
        max(each.p_refute for each in alternatives),
        estimate,
        None,
        best.n,
        evidence,
        best.weakest,
        best.contrary,
        len(best.contrasts),
    )


def _short_of_margin(contrast: Contrast) -> float:
    return 0.0 if contrast.mean is None else contrast.margin - contrast.mean
