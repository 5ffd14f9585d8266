"""`table --metric mce`: the definition by hand, and what a reference must be."""

from __future__ import annotations

import pytest

from normbench.commands import table
from normbench.corruptions import STANDARD
from normbench.errors import InputError
from normbench.record import DIVERGED
from normbench.report.mce import with_mce
from normbench.store import Store

CONTRAST = [0.1, 0.2, 0.3, 0.4, 0.5]
FOG = [0.05, 0.05, 0.1, 0.1, 0.2]


def errors(contrast, fog, source=""):
    families = {"contrast": contrast, "fog": fog}
    return {
        f"test_error/{family}:{severity}{source}": error
        for family, values in families.items()
        for severity, error in enumerate(values, 1)
    }


@pytest.fixture
def shifted(make):
    """Two seeds of bn, one run of gn with adapted errors, and one that diverged."""
    half = [error / 2 for error in CONTRAST]
    return [
        make(0.01, norm="bn", seed=0, metrics=errors(CONTRAST, FOG)),
        make(0.02, norm="bn", seed=1, metrics=errors([0.5] * 5, [0.1] * 5)),
        make(0.03, norm="gn", metrics=errors(half, FOG) | errors(FOG, FOG, "@adapt")),
        make(None, norm="ln_c", status=DIVERGED),
    ]


def by_norm(records, metric):
    return {
        (record.spec["norm"]["name"], record.spec["seed"]): record.metrics.get(metric) for record in records
    }


def test_it_is_the_mean_over_families_of_ratios_of_sums_over_severities(shifted):
    found, (note,) = with_mce(shifted, "mce", ["norm=bn"])
    contrast, fog = (1.5 + 2.5) / 2, (0.5 + 0.5) / 2  # of the reference: means over its seeds
    own = by_norm(found, "mce")
    assert own["bn", 0] == pytest.approx((1.5 / contrast + 0.5 / fog) / 2)
    assert own["bn", 1] == pytest.approx((2.5 / contrast + 0.5 / fog) / 2)
    assert (own["bn", 0] + own["bn", 1]) / 2 == pytest.approx(1)
    assert own["gn", 0] == pytest.approx((0.75 / contrast + 0.5 / fog) / 2)
    assert own["ln_c", 0] is None
    assert "contrast" in note and "2 runs" in note and "severities 1, 2, 3, 4, 5" in note


def test_a_source_is_that_of_the_run_and_never_of_the_reference(shifted):
    found, _ = with_mce(shifted, "mce@adapt", ["norm=bn"])
    own = by_norm(found, "mce@adapt")
    assert own["gn", 0] == pytest.approx((0.5 / 2.0 + 0.5 / 0.5) / 2)
    assert own["bn", 0] is None


def test_other_metrics_and_their_records_stay(shifted):
    assert with_mce(shifted, "test_error", []) == (shifted, ())


@pytest.mark.parametrize(
    ("metric", "reference", "message"),
    [
        ("mce", [], "divides by the errors of a reference run"),
        ("test_error", ["norm=bn"], "--reference belongs to --metric mce"),
        ("mce", ["norm=rms"], "no run has norm rms"),
        ("mce", ["norm=ln_c"], "has ended without a failure"),
        ("mce", ["norm!=ln_c"], "must name one configuration; its runs differ in norm.name"),
    ],
)
def test_what_cannot_be_a_reference_is_refused_in_one_line(shifted, metric, reference, message):
    with pytest.raises(InputError, match=message) as error:
        with_mce(shifted, metric, reference)
    assert "\n" not in str(error.value)


def test_a_reference_needs_errors_and_corrupted_images(make):
    with pytest.raises(InputError, match="no test errors on corrupted images"):
        with_mce([make(0.1)], "mce", ["norm=bn"])
    with pytest.raises(InputError, match="no errors under fog"):
        with_mce([make(0.1, metrics=errors(CONTRAST, [0.0] * 5))], "mce", ["norm=bn"])
    with pytest.raises(InputError, match="there are no records"):
        with_mce([], "mce", ["norm=bn"])


def test_only_what_every_reference_run_has_counts_and_only_standard_families(make):
    metrics = {"test_error/contrast:3": 0.4, "test_error/saturate:3": 0.1}
    more = metrics | {"test_error/fog:3": 0.2}
    one, two = make(0.1, metrics=metrics), make(0.1, seed=1, metrics=more)
    found, (note,) = with_mce([one, two], "mce", ["norm=bn"])
    assert [record.metrics["mce"] for record in found] == [1.0, 1.0]
    assert "mean over contrast, severities 3." in note
    every = {f"test_error/{family}:3": 0.1 for family in STANDARD}
    assert f"all {len(STANDARD)} families" in with_mce([make(0.1, metrics=every)], "mce", ["norm=bn"])[1][0]


def test_the_table_shows_percent_and_names_the_reference(shifted, capsys):
    store = Store.default()
    for record in shifted:
        store.put(record)
    assert table.run(["--cols", "", "--metric", "mce", "--reference", "norm=bn", "--format", "md"]) == 0
    shown = capsys.readouterr().out
    assert "mce (%)" in shown
    assert "100.00" in shown and "68.75" in shown
    assert "2 runs with norm=bn" in shown
    assert table.run(["--metric", "mce", "--reference", "norm=bn", "--runs", "--format", "csv"]) == 0
    assert "0.6875" in capsys.readouterr().out
