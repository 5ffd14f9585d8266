"""`placement.sites` selects sites by their whole name."""

from __future__ import annotations

import pytest

from normbench.errors import InputError
from normbench.models.sites import selected

SITES = (
    "stem",
    "stage1.0.norm1",
    "stage1.0.norm2",
    "stage1.1.norm1",
    "stage2.0.norm1",
    "stage2.0.shortcut",
    "final",
)


@pytest.mark.parametrize(
    ("wanted", "sites"),
    [
        ("all", SITES),
        ("first", SITES[:1]),
        ("last", SITES[-1:]),
        ("stem", ["stem"]),
        ("stage1.*", ["stage1.0.norm1", "stage1.0.norm2", "stage1.1.norm1"]),
        ("*.norm1", ["stage1.0.norm1", "stage1.1.norm1", "stage2.0.norm1"]),
        ("stage?.0.norm1", ["stage1.0.norm1", "stage2.0.norm1"]),
        ("*[!1]", ["stem", "stage1.0.norm2", "stage2.0.shortcut", "final"]),
        (("final", "stage1.0.*"), ["stage1.0.norm1", "stage1.0.norm2", "final"]),
        (["stem", "stem", "s*m"], ["stem"]),
    ],
)
def test_a_pattern_selects_the_sites_whose_whole_name_matches(wanted, sites):
    assert selected(wanted, SITES) == frozenset(sites)


@pytest.mark.parametrize(
    "part",
    ["norm1", "stage1", "stage1.0", "tem", "ste", "tage1.*", "stage1.*.norm", "Stem", "STAGE1.*", "", "?"],
)
def test_a_part_of_a_name_or_another_case_selects_nothing(part):
    with pytest.raises(InputError, match=f"unknown site '{part}'".replace("*", r"\*").replace("?", r"\?")):
        selected(part, SITES)
    with pytest.raises(InputError, match="unknown site"):
        selected(["stem", part], SITES)


def test_conv1_is_not_conv1_1_and_not_conv10():
    sites = ("conv1", "conv1_1", "conv10", "xconv1")
    assert selected("conv1", sites) == {"conv1"}
    assert selected("conv1*", sites) == {"conv1", "conv1_1", "conv10"}


def test_an_empty_list_is_refused():
    with pytest.raises(InputError, match=r"placement\.sites is empty; use norm=none"):
        selected((), SITES)
