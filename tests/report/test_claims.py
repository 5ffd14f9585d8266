from __future__ import annotations

import pytest
import scipy.stats

from normbench.papers import check_claims
from normbench.papers.claim_kinds import Flat, Greater
from normbench.report.tables import build_table

BN = {32: (0.020, 0.022, 0.021), 2: (0.40, 0.48, 0.44)}
GN = {32: (0.030, 0.033, 0.031), 2: (0.031, 0.033, 0.029)}


def greater(margin: float, *, a=("bn", 2), b=("bn", 32), asserted: bool = True) -> Greater:
    fields = {"id": "g", "text": "Text", "kind": "greater", "assert": asserted, "margin": margin}
    places = {name: {"norm": norm, "batch": batch} for name, (norm, batch) in (("a", a), ("b", b))}
    return Greater.model_validate(fields | places)


def spread(margin: float, norm: str = "gn") -> Flat:
    fields = {"id": "s", "text": "Text", "kind": "flat", "assert": True, "margin": margin}
    return Flat.model_validate(fields | {"where": {"norm": norm}})


@pytest.fixture
def records(make):
    return [
        make(error, norm=norm, batch=batch, seed=seed)
        for norm, cells in (("bn", BN), ("gn", GN))
        for batch, errors in cells.items()
        for seed, error in enumerate(errors)
    ]


def judge(claim, records, axes=(["bn", "gn"], ["32", "2"])):
    [result] = check_claims([claim], build_table(records, "norm", "batch", "test_error", axes=axes))
    return result


@pytest.mark.parametrize(("margin", "holds"), [(0.15, True), (0.419, True), (0.42, False)])
def test_greater_compares_the_difference_of_means_with_the_margin(records, margin, holds) -> None:
    result = judge(greater(margin), records)
    assert result.holds is holds
    assert result.verdict == ("PASS" if holds else "FAIL")
    assert result.broken is not holds


def test_greater_gives_the_one_sided_paired_p_and_the_numbers(records) -> None:
    result = judge(greater(0.15), records)
    assert result.p == pytest.approx(scipy.stats.ttest_rel(BN[2], BN[32], alternative="greater").pvalue)
    assert result.evidence == (
        "bn at 2: 44.00 ± 4.00 %, bn at 32: 2.10 ± 0.10 %; difference 41.90 points, claimed ≥ 15.00 points; "
        f"one-sided paired t-test, n = 3, p = {result.p:.2g}"
    )


def test_greater_has_a_direction(records) -> None:
    result = judge(greater(0.0, a=("bn", 32), b=("bn", 2)), records)
    assert not result.holds
    assert result.p > 0.95


def test_one_seed_gives_a_verdict_without_a_p(make) -> None:
    result = judge(greater(0.1), [make(0.5, norm="bn", batch=2), make(0.1, norm="bn", batch=32)])
    assert result.holds
    assert result.p is None


@pytest.mark.parametrize(("margin", "holds"), [(0.02, True), (0.0003, False)])
def test_spread_compares_the_extreme_means(records, margin, holds) -> None:
    result = judge(spread(margin), records)
    assert result.holds is holds
    assert result.p is None
    assert result.evidence.startswith(
        "lowest gn at 2: 3.10 ± 0.20 %, highest gn at 32: 3.13 ± 0.15 %; spread 0.03"
    )


def test_a_claim_about_missing_cells_does_not_hold(records) -> None:
    kept = [record for record in records if record.value("batch") == 32]
    for claim in (greater(-1.0), spread(1.0)):
        result = judge(claim, kept)
        assert result.broken
        assert result.evidence in ("no run of bn at 2", "no run of gn at 2")


@pytest.mark.parametrize("status", ["diverged", "failed"])
def test_a_claim_about_broken_runs_does_not_hold(make, records, status) -> None:
    records.append(make(None, norm="bn", batch=2, seed=3, status=status))
    result = judge(greater(0.15), records)
    assert result.broken
    assert result.evidence == "1 of 4 runs of bn at 2 diverged, failed or gave no value"


def test_a_claim_about_cells_that_were_left_out_is_not_judged(records) -> None:
    for claim in (greater(0.15), spread(0.01)):
        result = judge(claim, records, axes=(["bn", "gn"], ["32"]))
        assert (result.verdict, result.holds, result.broken) == ("SKIP", False, False)


def test_a_reported_claim_breaks_nothing(records) -> None:
    result = judge(greater(0.9, asserted=False), records)
    assert (result.verdict, result.holds, result.broken) == ("REPORT", False, False)
    assert result.line().startswith("REPORT g: Text [it does not hold; bn at 2:")


def test_json_has_the_documented_fields(records) -> None:
    tree = judge(greater(0.15), records).to_json()
    assert list(tree)[:5] == ["id", "text", "holds", "evidence", "p"]
