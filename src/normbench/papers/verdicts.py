"""Verdicts on the claims of a table: supported, refuted or undecided.

`docs/statistics.md` says how, with sources. The level of a table, LEVEL, bounds the probability that any of
its asserted claims gets a false verdict. Half of it is for support and half for refutation. Holm's method
divides each half among the asserted claims, and Bonferroni's among the looks, if seeds are added in stages.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

from normbench.papers.findings import Finding
from normbench.report.power import seeds_to_decide
from normbench.report.stats import LEVEL, holm

Outcome = Literal["supported", "refuted", "undecided", "skipped"]
SUPPORTED: Outcome = "supported"
REFUTED: Outcome = "refuted"
UNDECIDED: Outcome = "undecided"
SKIPPED: Outcome = "skipped"


class Judged(NamedTuple):
    """An outcome, and the p-value that decided it, adjusted over claims; None if there is no finding."""

    outcome: Outcome
    p_adjusted: float | None


@dataclass(frozen=True)
class Family:
    """The claims of one table, in order, while they are decided in one or several looks.

    asserted: whether a claim is asserted. Others are judged alone, without correction over claims.
    looks:    how often the claims may be looked at; each look has an equal part of the level.
    outcomes: those so far. A decided claim keeps its outcome.
    """

    asserted: tuple[bool, ...]
    looks: int = 1
    outcomes: tuple[Judged, ...] = ()

    @classmethod
    def of(cls, asserted: Sequence[bool], looks: int = 1) -> Family:
        return cls(tuple(asserted), looks, (Judged(UNDECIDED, None),) * len(asserted))

    @property
    def level(self) -> float:
        """The one-sided level of one look, for support as for refutation."""
        return LEVEL / 2 / self.looks

    def after(self, findings: Sequence[Finding | None]) -> Family:
        """The family after a look.

        Args:
            findings: one per claim; None if there is no verdict. Those of decided claims are not read.
        """
        support = self._adjusted(findings, SUPPORTED)
        refute = self._adjusted(findings, REFUTED)
        outcomes = []
        for before, finding, p_for, p_against in zip(self.outcomes, findings, support, refute, strict=True):
            if before.outcome != UNDECIDED or finding is None:
                outcomes.append(before)
            elif p_for <= self.level:
                outcomes.append(Judged(SUPPORTED, p_for))
            elif p_against <= self.level:
                outcomes.append(Judged(REFUTED, p_against))
            else:
                outcomes.append(Judged(UNDECIDED, min(p_for, p_against)))
        return replace(self, outcomes=tuple(outcomes))

    def _adjusted(self, findings: Sequence[Finding | None], direction: Outcome) -> list[float]:
        """p-values in one direction, adjusted by Holm's method over the asserted claims.

        Claims that an earlier look decided in this direction are rejected hypotheses and leave the family.
        All others stay in it, with p = 1 if they have no finding.
        """
        p_values = [1.0] * len(findings)
        for place, (finding, before) in enumerate(zip(findings, self.outcomes, strict=True)):
            if finding is not None and before.outcome == UNDECIDED:
                p_values[place] = finding.p_support if direction == SUPPORTED else finding.p_refute
        family = [
            place
            for place, (asserted, before) in enumerate(zip(self.asserted, self.outcomes, strict=True))
            if asserted and before.outcome != direction
        ]
        for place, p in zip(family, holm([p_values[place] for place in family]), strict=True):
            p_values[place] = float(f"{p:.12g}")  # later digits differ between machines
        return p_values

    def share(self, place: int) -> float:
        """The level that a claim has if no other claim is decided: what plans of seeds are made with."""
        return self.level / (sum(self.asserted) if self.asserted[place] else 1)

    def needs(self, place: int, finding: Finding) -> int | None:
        """The number of seeds that decides a claim with the power of `report.power`; None if not known.

        It takes the observed mean and sd for the true ones: a plan, not a promise.
        """
        if finding.weakest is None or finding.contrary is None:
            return None
        level = self.share(place)
        contrast, sign = finding.weakest, 1
        if contrast.mean is None or contrast.mean < contrast.margin:
            contrast, sign, level = finding.contrary, -1, level / finding.tests
        if contrast.mean is None or contrast.sd is None:
            return None
        found = seeds_to_decide(sign * (contrast.mean - contrast.margin), contrast.sd, level)
        return found if contrast.test == "t" or found is None else max(found, math.ceil(-math.log2(level)))

    def out_of_reach(self, place: int, finding: Finding) -> int | None:
        """The fewest seeds with which the test can reach the level; None if it can with those there are."""
        level, tested = self.share(place), finding.weakest
        if tested is None or tested.smallest <= level:
            return None
        return 2 if tested.test == "t" else math.ceil(-math.log2(level))
