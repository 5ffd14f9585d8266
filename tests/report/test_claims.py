from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
import scipy.stats

from normbench.papers.claims import check_claims
from normbench.papers.description import Scale
from normbench.papers.looks import sizes
from normbench.papers.measurements import Measurements

BN = {32: (0.020, 0.022, 0.021, 0.019, 0.023), 2: (0.40, 0.48, 0.44, 0.42, 0.46)}
GN = {32: (0.030, 0.033, 0.031, 0.032, 0.030), 2: (0.031, 0.033, 0.029, 0.031, 0.033)}
GRID = {"norm": ["bn", "gn"], "batch": [32, 2], "seed": [0, 1, 2, 3, 4]}
A, B = {"norm": "bn", "batch": 2}, {"norm": "bn", "batch": 32}


def scale(*claims: Mapping, grid: Mapping = GRID) -> Scale:
    named = [{"id": f"c{i}", "text": "Text"} | dict(claim) for i, claim in enumerate(claims)]
    return Scale.model_validate({"rows": ["norm"], "cols": ["batch"], "grids": [grid], "claims": named})


def judge_all(records, *claims: Mapping, grid: Mapping = GRID, metric: str = "test_error", **options):
    table = scale(*claims, grid=grid)
    asked = {tuple(place.values()): grid["seed"] for place in table.places}
    partial = options.get("partial", False)
    runs = Measurements(records, ["norm"], ["batch"], metric, asked, partial=partial)
    return check_claims(table.claims, runs, table.places, **options)


def judge(records, claim: Mapping, **options):
    [result] = judge_all(records, claim, **options)
    return result


def greater(margin: float, a: Mapping = A, b: Mapping = B, **more) -> dict:
    return {"kind": "greater", "a": a, "b": b, "margin": margin} | more


@pytest.fixture
def records(make):
    return [
        make(error, norm=norm, batch=batch, seed=seed)
        for norm, cells in (("bn", BN), ("gn", GN))
        for batch, errors in cells.items()
        for seed, error in enumerate(errors)
    ]


def differences() -> np.ndarray:
    return np.array(BN[2]) - np.array(BN[32])


# greater


@pytest.mark.parametrize(
    ("margin", "outcome"), [(0.15, "supported"), (0.40, "undecided"), (0.44, "undecided"), (0.6, "refuted")]
)
def test_greater_is_decided_by_the_interval_against_the_margin(records, margin, outcome) -> None:
    result = judge(records, greater(margin))
    assert result.outcome == outcome
    interval = scipy.stats.ttest_1samp(differences(), 0).confidence_interval(0.95)
    assert result.interval == pytest.approx(interval)
    by_interval = {(True, True): "supported", (False, False): "refuted"}
    assert by_interval.get((interval[0] >= margin, interval[1] >= margin), "undecided") == outcome


def test_p_is_that_of_the_paired_t_test_against_the_margin(records) -> None:
    shifted = np.array(BN[2]) - 0.15
    expected = scipy.stats.ttest_rel(shifted, BN[32], alternative="greater").pvalue
    assert judge(records, greater(0.15)).p == pytest.approx(expected)
    refuted = judge(records, greater(0.6))
    assert refuted.p == pytest.approx(
        scipy.stats.ttest_rel(np.array(BN[2]) - 0.6, BN[32], alternative="less").pvalue
    )


def test_the_evidence_has_the_numbers(records) -> None:
    result = judge(records, greater(0.15))
    assert result.evidence.startswith(
        "bn at 2: 44.00 ± 3.16 %, bn at 32: 2.10 ± 0.16 %; difference 41.90 [38.13, 45.67] points, "
        "claimed ≥ 15.00 points; n = 5, one-sided p = "
    )


def test_greater_has_a_direction(records) -> None:
    assert judge(records, greater(0.0, B, A)).outcome == "refuted"


def test_an_undecided_claim_says_how_many_seeds_would_decide(records) -> None:
    result = judge(records, greater(0.40))
    assert result.verdict == "UNDECIDED"
    assert result.open
    assert not result.holds
    assert result.seeds_to_decide > 5
    assert f"about {result.seeds_to_decide} seeds would decide" in result.evidence


def test_one_seed_decides_nothing_and_says_so(make) -> None:
    grid = GRID | {"seed": [0]}
    result = judge([make(0.5, norm="bn", batch=2), make(0.1, norm="bn", batch=32)], greater(0.1), grid=grid)
    assert result.outcome == "undecided"
    assert "cannot reach the level 0.025 with 1 seed, it can with 2" in result.evidence


def test_a_test_that_cannot_reach_the_level_says_from_how_many_seeds_on_it_can(records) -> None:
    result = judge(records, greater(0.15, test="permutation"))
    assert result.outcome == "undecided"
    assert "cannot reach the level 0.025 with 5 seeds, it can with 6" in result.evidence


def test_a_and_b_may_differ_in_their_metric(make) -> None:
    grid = GRID | {"norm": ["bn"], "batch": [2, 32]}
    made = [
        make(e, norm="bn", batch=2, seed=s, metrics={"test_error@precise": 0.02 + 0.001 * s * s})
        for s, e in enumerate(BN[2])
    ]
    result = judge(
        made, greater(0.2, A | {"metric": "test_error"}, A | {"metric": "test_error@precise"}), grid=grid
    )
    assert result.outcome == "supported"
    assert "bn at 2 (test_error@precise): 2.60 ± 0.66 %" in result.evidence


def test_several_metrics_are_averaged_per_run(make) -> None:
    grid = GRID | {"norm": ["bn"]}
    made = [
        make(0.9, norm="bn", batch=batch, seed=s,
             metrics={"test_error/fog:1": base + 0.01 * s, "test_error/fog:2": base + 0.02 * s * s})
        for batch, base in ((2, 0.4), (32, 0.1)) for s in range(5)
    ]  # fmt: skip
    result = judge(made, greater(0.1, metric=["test_error/fog:1", "test_error/fog:2"]), grid=grid)
    assert (
        "bn at 32: 17.00" in result.evidence
    )  # 0.1 + (0.01 · 2 + 0.02 · 6) / 2, the mean of s is 2, of s² 6
    assert result.estimate == pytest.approx(0.3)


# Holm


def test_holm_counts_the_asserted_claims_of_the_table(records) -> None:
    interval = scipy.stats.ttest_1samp(differences(), 0).confidence_interval(0.96)
    alone = greater(interval[0])  # p = 0.02: supported alone, not among two
    assert judge(records, alone).outcome == "supported"
    beside = greater(0.42)
    both = judge_all(records, alone, beside)
    assert [result.outcome for result in both] == ["undecided", "undecided"]
    reported = judge_all(records, alone, beside | {"assert": False})
    assert [result.outcome for result in reported] == ["supported", "undecided"]


def test_a_decided_claim_leaves_more_level_for_the_others(records) -> None:
    interval = scipy.stats.ttest_1samp(differences(), 0).confidence_interval(0.96)
    clear = greater(0.1)
    assert [r.outcome for r in judge_all(records, clear, greater(interval[0]))] == ["supported", "supported"]


# Other kinds


@pytest.mark.parametrize(
    ("norm", "margin", "outcome"),
    [("gn", 0.02, "supported"), ("gn", 0.0003, "undecided"), ("bn", 0.02, "refuted")],
)
def test_flat_is_equivalence_of_all_pairs(records, norm, margin, outcome) -> None:
    result = judge(records, {"kind": "flat", "where": {"norm": norm}, "margin": margin})
    assert result.outcome == outcome
    if norm == "gn":
        assert "spread 0.02" in result.evidence
        d = np.array(GN[2]) - np.array(GN[32])
        sides = (scipy.stats.ttest_1samp(d, s * margin, alternative=w).pvalue
                 for s, w in ((1, "less"), (-1, "greater")))  # fmt: skip
        assert result.p == pytest.approx(max(sides))


@pytest.mark.parametrize(("factor", "outcome"), [(5.0, "supported"), (20.9, "undecided"), (50.0, "refuted")])
def test_ratio_compares_logarithms(records, factor, outcome) -> None:
    result = judge(records, {"kind": "ratio", "a": A, "b": B, "factor": factor})
    assert result.outcome == outcome
    logs = np.log(BN[2]) - np.log(BN[32])
    assert result.estimate == pytest.approx(np.exp(logs.mean()))
    assert result.interval == pytest.approx(
        np.exp(scipy.stats.ttest_1samp(logs, 0).confidence_interval(0.95))
    )


BATCHES = [32, 16, 8, 4]
LINE = {"norm": ["bn"], "batch": BATCHES, "seed": [0, 1, 2, 3, 4]}


def line(make, means: Sequence[float], sd: float = 0.004):
    rng = np.random.default_rng(1)
    return [
        make(float(mean + rng.normal(0, sd)), norm="bn", batch=batch, seed=seed)
        for batch, mean in zip(BATCHES, means, strict=True)
        for seed in range(5)
    ]


@pytest.mark.parametrize(
    ("means", "margin", "outcome"),
    [
        ((0.1, 0.15, 0.2, 0.25), 0.1, "supported"),
        ((0.1, 0.15, 0.2, 0.25), 0.3, "refuted"),
        ((0.25, 0.2, 0.15, 0.1), 0.0, "refuted"),
        ((0.1, 0.1, 0.1, 0.1), 0.0, "undecided"),
    ],
)
def test_rises_is_a_trend_along_the_order_of_the_file(make, means, margin, outcome) -> None:
    claim = {"kind": "rises", "where": {"norm": "bn"}, "along": "batch", "margin": margin}
    assert judge(line(make, means), claim, grid=LINE).outcome == outcome


def test_rises_needs_order_within_seeds_by_pages_test(make) -> None:
    """One high end gives a trend of means, but no order of the cells."""
    made = line(make, (0.11, 0.09, 0.10, 0.3), sd=0.0005)
    result = judge(made, {"kind": "rises", "where": {"norm": "bn"}, "along": "batch"}, grid=LINE)
    rows = [[r.metrics["test_error"] for r in made if r.spec["seed"] == s] for s in range(5)]
    page = scipy.stats.page_trend_test(rows, predicted_ranks=[1, 2, 3, 4]).pvalue
    assert result.p == pytest.approx(page)


def test_the_order_of_a_trend_can_be_given(make) -> None:
    claim = {"kind": "rises", "where": {"norm": "bn"}, "along": "batch", "values": [4, 8, 16, 32]}
    assert judge(line(make, (0.25, 0.2, 0.15, 0.1)), claim, grid=LINE).outcome == "supported"


@pytest.mark.parametrize(
    ("means", "outcome"),
    [
        ((0.3, 0.1, 0.2, 0.4), "supported"),
        ((0.1, 0.2, 0.3, 0.4), "refuted"),
        ((0.201, 0.2, 0.2, 0.4), "undecided"),
    ],
)
def test_an_interior_minimum_lies_below_both_ends(make, means, outcome) -> None:
    claim = {"kind": "interior_minimum", "where": {"norm": "bn"}, "along": "batch", "margin": 0.001}
    assert judge(line(make, means), claim, grid=LINE).outcome == outcome


@pytest.mark.parametrize(
    ("kind", "batch", "margin", "outcome"),
    [
        ("best", 32, 0.02, "supported"),
        ("best", 16, -0.2, "supported"),
        ("best", 4, 0.0, "refuted"),
        ("worst", 4, 0.02, "supported"),
        ("worst", 32, 0.0, "refuted"),
    ],
)
def test_best_and_worst_compare_one_cell_with_all_others(make, kind, batch, margin, outcome) -> None:
    claim = {"kind": kind, "cell": {"norm": "bn", "batch": batch}, "margin": margin}
    assert judge(line(make, (0.1, 0.15, 0.2, 0.25)), claim, grid=LINE).outcome == outcome


# Diverged, failed, missing


@pytest.mark.parametrize(("how", "outcome"), [({}, "undecided"), ({"diverged": "chance"}, "supported")])
def test_a_diverged_run_counts_as_the_claim_says(make, records, how, outcome) -> None:
    kept = [r for r in records if (r.value("norm"), r.value("batch"), r.spec["seed"]) != ("bn", 2, 0)]
    made = [*kept, make(None, norm="bn", batch=2, seed=0, status="diverged")]
    result = judge(made, greater(0.1, **how))
    assert result.outcome == outcome
    if not how:
        assert result.evidence == "no verdict: 1 of 5 runs of bn at 2 diverged"


def test_diverged_runs_that_are_behind_all_others_are_compared_by_the_sign_test(make) -> None:
    grid = GRID | {"seed": list(range(8))}
    made = [make(None, norm="bn", batch=2, seed=s, status="diverged") for s in range(8)]
    made += [make(0.1 + s * s / 100, norm="bn", batch=32, seed=s) for s in range(8)]
    result = judge(made, greater(0.1, diverged="diverges"), grid=grid)
    assert (result.outcome, result.p, result.estimate) == ("supported", 0.5**8, None)
    assert "8 of 8 diverged" in result.evidence


@pytest.mark.parametrize(("broken", "outcome"), [(5, "supported"), (3, "undecided"), (0, "refuted")])
def test_diverges_is_a_binomial_test_of_the_share(make, broken, outcome) -> None:
    made = [
        make(None if s < broken else 0.1, norm="bn", batch=b, seed=s,
             status="diverged" if s < broken else "complete")
        for s in range(5) for b in (32, 2)
    ]  # fmt: skip
    result = judge(made, {"kind": "diverges", "where": {"norm": "bn"}, "share": 0.5})
    assert (result.outcome, result.n, result.estimate) == (outcome, 10, broken / 5)


def test_a_target_that_was_never_reached_counts_as_the_length_of_the_run(make) -> None:
    grid = GRID | {"norm": ["none", "bn"], "batch": [2, 4]}

    def made(norm, seed, steps):
        return make(0.5, norm=norm, batch=2, seed=seed, steps=1200, metrics={"steps_to_0.1": steps})

    runs = [*(made("none", s, None) for s in range(5)), *(made("bn", s, 40.0 + 7 * s * s) for s in range(5))]
    claim = {"kind": "ratio", "a": {"norm": "none", "batch": 2}, "b": {"norm": "bn", "batch": 2}, "factor": 3}
    fails = judge(runs, claim, grid=grid, metric="steps_to_0.1")
    assert fails.evidence == "no verdict: 5 of 5 runs of none at 2 have no steps_to_0.1"
    counts = judge(runs, claim | {"unreached": "length"}, grid=grid, metric="steps_to_0.1")
    assert counts.outcome == "supported"


def test_the_largest_value_of_a_key_is_compared(make) -> None:
    """The largest batch with an error of at most 0.2: 32 for gn; 2 for bn, or 4 with one seed."""
    grid = {"norm": ["gn", "bn"], "batch": [2, 4, 32], "seed": list(range(6))}
    made = [make(0.1, norm="gn", batch=b, seed=s) for b in (2, 4, 32) for s in range(6)]
    made += [
        make(None if b == 32 else 0.5 if b == 4 and s else 0.1, norm="bn", batch=b, seed=s,
             status="diverged" if b == 32 else "complete")
        for b in (2, 4, 32) for s in range(6)
    ]  # fmt: skip
    claim = {
        "kind": "ratio", "a": {"norm": "gn"}, "b": {"norm": "bn"}, "factor": 4,
        "largest": {"along": "batch", "below": 0.2},
    }  # fmt: skip
    result = judge(made, claim, grid=grid)
    assert result.outcome == "supported"
    assert result.estimate == pytest.approx((16**5 * 8) ** (1 / 6))


def test_a_failed_or_missing_run_leaves_the_claim_without_a_verdict(make, records) -> None:
    kept = [r for r in records if (r.value("norm"), r.value("batch"), r.spec["seed"]) != ("bn", 2, 0)]
    missing = judge(kept, greater(0.1))
    assert (missing.outcome, missing.evidence) == (
        "undecided",
        "no verdict: 1 of 5 runs of bn at 2 are missing",
    )
    failed = judge([*kept, make(None, norm="bn", batch=2, seed=0, status="failed")], greater(0.1))
    assert (failed.outcome, failed.evidence) == ("undecided", "no verdict: 1 of 5 runs of bn at 2 failed")


def test_a_partial_grid_is_judged_if_asked(records) -> None:
    kept = [r for r in records if (r.value("norm"), r.value("batch"), r.spec["seed"]) != ("bn", 2, 0)]
    result = judge(kept, greater(0.1), partial=True)
    assert (result.outcome, result.n) == ("supported", 4)


def test_a_claim_about_cells_that_were_left_out_is_skipped(records) -> None:
    shown = [{"norm": norm, "batch": "32"} for norm in ("bn", "gn")]
    for claim in (greater(0.15), {"kind": "flat", "where": {"norm": "gn"}, "margin": 0.01}):
        result = judge(records, claim, shown=shown)
        assert (result.verdict, result.holds, result.broken) == ("SKIP", False, False)


def test_a_reported_claim_breaks_nothing(records) -> None:
    result = judge(records, greater(0.9, **{"assert": False}))
    assert (result.verdict, result.holds, result.broken) == ("REPORT", False, False)
    assert result.line().startswith("REPORT c0: Text [refuted; bn at 2:")


def test_json_has_the_documented_fields(records) -> None:
    tree = judge(records, greater(0.15)).to_json()
    assert {"id", "text", "verdict", "asserted", "holds", "evidence", "estimate", "interval", "p", "n",
            "seeds_to_decide"} <= tree.keys()  # fmt: skip
    assert (tree["verdict"], tree["holds"]) == ("supported", True)
    assert judge(records, greater(0.15, **{"assert": False})).to_json()["verdict"] == "report"


@pytest.mark.parametrize(
    ("first", "most", "expected"), [(5, 30, [5, 10, 20, 30]), (5, 40, [5, 10, 20, 40]), (3, 3, [3])]
)
def test_every_look_has_twice_the_seeds_up_to_the_most(first, most, expected) -> None:
    assert sizes(first, most) == expected
