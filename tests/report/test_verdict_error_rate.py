"""How often verdicts are false: 2,000 simulated tables whose true differences lie at the margins."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from normbench.papers.findings import Conjunction, Finding
from normbench.papers.looks import SeedPlan, sizes
from normbench.papers.verdicts import REFUTED, SUPPORTED, UNDECIDED, Family
from normbench.report.contrasts import against
from normbench.report.stats import LEVEL

TABLES = 2000
#: The largest share of false tables that 2,000 draws of probability LEVEL give, but for one time in 1,000.
MOST = LEVEL + 3.1 * math.sqrt(LEVEL * (1 - LEVEL) / TABLES)


def decided(draws: np.ndarray, looks: Sequence[int], planned: int) -> Family:
    """The family after all looks: one "greater" claim per row of differences, margin 0."""
    family = Family.of([True] * len(draws), planned)
    for n in looks:
        findings: list[Finding | None] = []
        for row, before in zip(draws, family.outcomes, strict=True):
            contrast = against(row[:n].tolist(), 0.0)
            finding = Conjunction((contrast,)).finding(contrast.mean, contrast.interval, "")
            findings.append(finding if before.outcome == UNDECIDED else None)
        family = family.after(findings)
        if all(outcome.outcome != UNDECIDED for outcome in family.outcomes):
            break
    return family


def false_tables(
    looks: Sequence[int], planned: int, *, correlated: bool = False, true_claims: int = 0
) -> float:
    """Share of tables with a false verdict. Claims at the margin are false if supported and if refuted."""
    rng = np.random.default_rng(0)
    count = 0
    for _ in range(TABLES):
        draws = rng.normal(0.0, 1.0, (3 + true_claims, max(looks)))
        if correlated:
            draws += rng.normal(0.0, 1.0, max(looks))
        draws[3:] += 2.0
        family = decided(draws, looks, planned)
        count += any(outcome.outcome in (SUPPORTED, REFUTED) for outcome in family.outcomes[:3])
    return count / TABLES


@pytest.mark.parametrize(
    ("looks", "correlated", "true_claims"),
    [
        ([5], False, 0),
        ([5], False, 2),
        (sizes(5, 30), False, 0),
        (sizes(5, 30), True, 2),
        (sizes(3, 30), False, 2),
    ],
)
def test_false_verdicts_at_the_margin_stay_at_the_level(looks, correlated, true_claims) -> None:
    assert false_tables(looks, len(looks), correlated=correlated, true_claims=true_claims) <= MOST


def test_looks_without_a_share_of_the_level_would_break_it() -> None:
    """The simulation can fail: several looks at the whole level make too many false verdicts."""
    assert false_tables(sizes(5, 30), 1) > MOST


def test_claims_away_from_the_margin_are_decided_rightly_in_stages() -> None:
    rng = np.random.default_rng(1)
    for _ in range(50):
        draws = rng.normal([[1.5], [-1.5]], 1.0, (2, 30))
        outcomes = [each.outcome for each in decided(draws, sizes(5, 30), 4).outcomes]
        assert outcomes == [SUPPORTED, REFUTED]


def test_a_decided_claim_keeps_its_verdict() -> None:
    family = decided(np.array([[1.0, 1.1, 0.9, 1.05, 0.95, *[-9.0] * 5]]), [5], 2)
    assert family.outcomes[0].outcome == SUPPORTED
    against_it = Finding(1.0, 0.0, -1.0, None, 10, "")
    assert family.after([against_it]).outcomes == family.outcomes


def test_a_plan_extends_only_the_cells_asked_for_and_keeps_pairs() -> None:
    plan = SeedPlan({("bn",): [0, 1], ("gn",): [0, 1], ("in",): [0, 1]}, 5)
    assert plan.looks == 3
    assert plan.extend([("bn",), ("gn",)]) == {("bn",): [2, 3], ("gn",): [2, 3]}
    assert plan.extend([("gn",)]) == {("gn",): [4]}
    assert plan.ended
    assert plan.asked[-1] == {("bn",): [0, 1, 2, 3], ("gn",): [0, 1, 2, 3, 4], ("in",): [0, 1]}
