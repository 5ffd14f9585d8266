"""A knob that a choice does not have is dropped and named, so that runs that are the same are one run."""

from __future__ import annotations

import pytest

#: Words about knobs that the choice before them does not have, and how they are named.
UNUSED = [
    (["norm=none", "norm.eps=0.1"], ["norm.eps of none"]),
    (["norm=none", "norm.momentum=0.5"], ["norm.momentum of none"]),
    (["norm=none", "norm.affine=false"], ["norm.affine of none"]),
    (["norm=gn", "norm.momentum=0.5"], ["norm.momentum of gn"]),
    (["weight=none", "weight.eps=0.1"], ["weight.eps of none"]),
    (["optim=adamw", "optim.momentum=0.5"], ["optim.momentum of adamw"]),
    (["optim=sgd", "optim.betas=[0.1,0.2]"], ["optim.betas of sgd"]),
    (["schedule=cosine", "schedule.gamma=0.5"], ["schedule.gamma of cosine"]),
    (["model=lenet5", "model.width=7"], ["model.width of lenet5"]),
]  # fmt: skip


@pytest.mark.parametrize(("words", "named"), UNUSED, ids=lambda value: " ".join(value))
def test_a_knob_without_use_is_dropped_and_named(make_sweep, words, named):
    (plain,), (given,) = make_sweep(words[0]), make_sweep(*words)
    assert sorted(given.unused) == sorted(named)
    assert plain.unused == ()
    assert given.spec == plain.spec
    assert given.spec.signature == plain.spec.signature


def test_runs_that_differ_in_unused_knobs_alone_are_one_run(make_sweep):
    sweep = make_sweep("norm=gn,none", "norm.momentum=0.1,0.2", "norm.eps=0.1,0.2")
    assert len(sweep) == 8
    assert len({run.spec.signature for run in sweep}) == 3
