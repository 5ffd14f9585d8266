"""Planning is pure: every missing run exactly once, one stack key per pack, nothing bigger than it may be."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from normbench.sweeps.plan import make_plan


def plan(resolved, finished=(), most=8, processes=1):
    return make_plan(resolved, set(finished), capacity=lambda spec: most, processes=processes)


@pytest.fixture
def sweep(make_sweep):
    """2 norms × 2 batches × 3 seeds × 2 rates: 24 runs, 4 stack keys."""
    return make_sweep("norm=bn,gn", "batch=2,32", "seed=range(3)", "optim.lr=0.1,0.2")


@pytest.mark.parametrize("most", [1, 2, 4, 5, 6, 64])
@pytest.mark.parametrize("processes", [1, 2, 7])
def test_every_missing_run_is_planned_exactly_once_in_packs_of_one_key(sweep, most, processes):
    done = {sweep[0].spec.signature, sweep[5].spec.signature}
    packs = plan(sweep, done, most, processes).packs
    planned = [signature for pack in packs for signature in pack.signatures]
    assert sorted(planned) == sorted({r.spec.signature for r in sweep} - done)
    assert all(len({spec.stack_key() for spec in pack.specs}) == 1 for pack in packs)
    assert all(1 <= len(pack.specs) <= most for pack in packs)


def test_no_two_packs_could_be_one(sweep):
    packs = plan(sweep, most=4).packs
    sizes = {}
    for pack in packs:
        sizes.setdefault(pack.specs[0].stack_key(), []).append(len(pack.specs))
    assert all(
        len(of_key) == 2 and max(of_key) - min(of_key) <= 1 for of_key in sizes.values()
    )  # 6 runs, 4 at most


def test_stacks_are_split_until_every_process_has_one(make_sweep):
    lone_group = make_sweep("seed=range(8)")
    assert [len(p.specs) for p in plan(lone_group, processes=2).packs] == [4, 4]
    assert [len(p.specs) for p in plan(lone_group, processes=3).packs] == [4, 2, 2]
    assert len(plan(lone_group[:2], processes=5).packs) == 2


def test_the_order_of_the_sweep_does_not_change_what_trains_together(sweep):
    shuffled = random.Random(0).sample(sweep, len(sweep))
    together = {frozenset(p.signatures) for p in plan(sweep, most=6).packs}
    assert together == {frozenset(p.signatures) for p in plan(shuffled, most=6).packs}


def test_a_knob_that_a_norm_does_not_have_makes_no_second_run_and_is_said(make_sweep):
    made = plan(make_sweep("norm=bn,gn", "norm.momentum=0.1,0.2,0.3"))
    assert made.distinct == 4
    assert (made.missing, made.trainings) == (4, 2)
    assert made.notes() == [
        "norm.momentum of gn has no effect: dropped in 3 of the runs",
        "2 of 6 runs are the same as another one and train once",
    ]


def test_runs_that_differ_in_the_momentum_of_evaluation_share_trainings(make_sweep):
    made = plan(make_sweep("norm=bn", "norm.momentum=0.1,0.2,0.3,cumulative", "seed=range(6)"), most=4)
    assert made.headline() == "24 runs: 24 to train → 6 trainings → 2 stacks"
    assert [[len(runs) for runs in pack.trainings] for pack in made.packs] == [[4, 4, 4], [4, 4, 4]]
    assert all(len({spec.seed for spec in runs}) == 1 for pack in made.packs for runs in pack.trainings)
    first, second = made.packs[0].halves()
    assert [len(runs) for runs in first.trainings] == [4, 4]
    assert [len(runs) for runs in second.trainings] == [4]
    lone, other = second.halves()  # a lone lane that breaks is taken apart by runs
    assert (len(lone.specs), len(other.specs)) == (2, 2)
    read = plan(make_sweep("norm=streaming", "norm.momentum=0.1,0.2,0.3", "seed=range(2)"))
    assert read.headline() == "6 runs: 6 to train in 1 stack"


def test_momenta_seeds_rates_and_eps_share_a_stack_and_structure_does_not(make_spec):
    base = make_spec()
    for word in (
        "seed=7",
        "optim.lr=0.3",
        "optim.weight_decay=0",
        "optim.momentum=0.5",
        "norm.momentum=0.9",
        "norm.eps=0.1",
    ):
        assert make_spec(word).stack_key() == base.stack_key(), word
        assert make_spec(word).signature != base.signature, word
    for word in (
        "batch=2",
        "norm.affine=false",
        "norm=gn",
        "steps=10",
        "data.flip=true",
        "optim=adamw",
        "workers=2",
        "engine.precision=bf16",
    ):
        assert make_spec(word).stack_key() != base.stack_key(), word


def test_finished_runs_are_counted_in_the_headline(sweep):
    everything = {r.spec.signature for r in sweep}
    assert plan(sweep, everything).headline() == "24 runs: 24 finished before, 0 to train"
    assert plan(sweep).headline() == "24 runs: 24 to train in 4 stacks"


def test_planning_never_imports_torch():
    modules = "normbench.sweeps.plan, normbench.config.resolve, normbench.store, normbench.papers"
    code = f"import sys, {modules}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
