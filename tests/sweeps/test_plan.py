"""Planning: every missing run exactly once, one stack key per pack, no pack larger than its capacity."""

from __future__ import annotations

import random
import subprocess
import sys

import pytest

from normbench.labels import flatten
from normbench.paths import get
from normbench.spec import LANE_FIELDS, RunSpec, neutral_fields
from normbench.sweeps.plan import Plan, stacks


def plan(resolved, finished=(), most=8, processes=1):
    distinct = {r.spec.signature: r.spec for r in resolved}
    missing = [spec for signature, spec in distinct.items() if signature not in set(finished)]
    packs = stacks(missing, capacity=lambda spec: most, processes=processes)
    return Plan(runs=len(distinct), finished=len(distinct) - len(missing), packs=packs)


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


def test_no_two_packs_could_be_merged(sweep):
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


def test_the_order_of_the_sweep_does_not_change_the_packs(sweep):
    shuffled = random.Random(0).sample(sweep, len(sweep))
    packs = {frozenset(p.signatures) for p in plan(sweep, most=6).packs}
    assert packs == {frozenset(p.signatures) for p in plan(shuffled, most=6).packs}


def test_runs_that_differ_only_in_a_bank_share_trainings(make_sweep):
    made = plan(make_sweep("norm=bn", "norm.momentum=0.1,0.2,0.3,cumulative", "seed=range(6)"), most=4)
    assert made.headline() == "24 runs: 24 to train → 6 trainings → 2 stacks"
    assert [[len(runs) for runs in pack.trainings] for pack in made.packs] == [[4, 4, 4], [4, 4, 4]]
    assert all(len({spec.seed for spec in runs}) == 1 for pack in made.packs for runs in pack.trainings)
    first, second = made.packs[0].halves()
    assert [len(runs) for runs in first.trainings] == [4, 4]
    assert [len(runs) for runs in second.trainings] == [4]
    lone, other = second.halves()  # a single lane is split by its runs
    assert (len(lone.specs), len(other.specs)) == (2, 2)
    read = plan(make_sweep("norm=streaming", "norm.momentum=0.1,0.2,0.3", "seed=range(2)"))
    assert read.headline() == "6 runs: 6 to train in 1 stack"


#: What the lanes of a stack may differ in. This list is not the code's: a change there must be meant.
LANES_MAY_DIFFER_IN = {
    "seed", "optim.lr", "optim.weight_decay", "optim.momentum", "norm.momentum", "norm.eps",
    "model.weights_hash",
}  # fmt: skip
#: Another value for every leaf of the specification, in the form that records have.
OTHER = {
    "model.name": "vgg11", "model.activation": "tanh", "model.hidden": [7], "model.width": 7,
    "model.pool": "avg", "model.stem": "imagenet", "model.shortcut": "conv", "model.dropout": 0.25,
    "model.zero_last": True, "model.bias": True, "model.branch": "skipinit", "model.init": "lsuv",
    "model.stem_activation": "in_branch", "model.weights_hash": "0123456789abcdef",
    "norm.name": "ghost", "norm.momentum": 0.7, "norm.eps": 0.125, "norm.affine": False,
    "norm.args.track": False, "norm.args.variance": "biased", "norm.args.center": False,
    "norm.args.scale": False, "weight.name": "ws", "weight.eps": 0.125,
    "placement.name": "conv_act_norm",
    "placement.sites": "first", "data.name": "synthetic", "data.fingerprint": "0123456789abcdef",
    "data.classes": 7, "data.size": 16, "data.channels": 3, "data.train_size": 100, "data.test_size": 100,
    "data.flip": True, "data.crop": 2, "data.standardize": "none", "data.valid": 0.25,
    "data.sampling": "class_pure", "data.resized_crop": 0.25, "data.center_crop": 0.5,
    "optim.name": "adamw", "optim.lr": 0.9, "optim.momentum": 0.3,
    "optim.nesterov": True, "optim.betas": [0.5, 0.9], "optim.eps": 0.125, "optim.weight_decay": 0.125,
    "optim.decay": "weights", "optim.clip": 1.0, "optim.label_smoothing": 0.1, "optim.lr_scaling": "none",
    "optim.lr_reference": 64, "optim.train": "norm", "optim.ema": 0.5, "optim.gamma_l1": 0.125,
    "optim.alpha": 0.5, "schedule.name": "constant", "schedule.warmup": 0.1,
    "schedule.milestones": [0.3], "schedule.gamma": 0.5, "schedule.every": 7, "schedule.patience": 2,
    "schedule.minimum": 0.5, "engine.precision": "fp64", "batch": 16,
    "workers": 2, "epochs": 3, "steps": 30, "seed": 9, "numerics": {"norm": 2},
    "plugins": {"norm": "0123456789abcdef"},
}  # fmt: skip
#: Leaves that change neither the final state nor the images.
WITHOUT_EFFECT = {
    "model.weights": "elsewhere",
    "data.root": "/elsewhere", "data.path": "/elsewhere", "data.download": True, "data.stream": True,
    "data.readers": 2, "engine.devices": "all", "eval.every": 10,
    "eval.statistics": ["running"], "eval.target": 0.5,
    "eval.corruptions": ["contrast:3"], "eval.metrics": ["ece"], "engine.device": "cuda", "engine.lanes": 3,
    "engine.processes": 3, "engine.graphs": False, "engine.compile": True, "engine.deterministic": True,
    "engine.layout": "contiguous", "engine.convolution": "lone", "tracking.name": "none",
    "tracking.project": "other", "tracking.entity": "other", "tracking.mode": "offline",
    "tracking.tags": ["a"], "keep_weights": False,
    "diagnostics": ["running_error"],
    "neutral": {
        "norm.args.some": 1, "norm.args.variance": "unbiased",
        "norm.args.center": True, "norm.args.scale": True,
    },
}  # fmt: skip


def with_value(spec, path, value):
    """The specification with another value at a path."""
    tree = {**spec.model_dump(mode="json")}
    *parents, leaf = path.split(".")
    node = tree
    for part in parents:
        node = node[part]
    assert node.get(leaf) != value, "another value is wanted"
    node[leaf] = value
    return RunSpec.model_validate(tree)


def test_every_field_of_the_specification_has_another_value_in_this_file(make_spec):
    leaves = flatten(make_spec().model_dump(mode="json", exclude={"neutral"})).keys()
    assert leaves - OTHER.keys() - WITHOUT_EFFECT.keys() == set()


@pytest.mark.parametrize("path", sorted(OTHER))
def test_every_field_changes_the_signature_and_the_stack_key_except_lane_fields(make_spec, path):
    base = make_spec()
    other = with_value(base, path, OTHER[path])
    assert other.signature != base.signature
    scaled = {"optim.lr_scaling", "optim.lr_reference"}  # of a run, the rate in force is what counts
    assert (other.stack_key() == base.stack_key()) == (path in LANES_MAY_DIFFER_IN | scaled)
    assert set(LANE_FIELDS) == LANES_MAY_DIFFER_IN


@pytest.mark.parametrize("path", sorted(WITHOUT_EFFECT))
def test_fields_of_computation_evaluation_and_reports_do_not_change_the_signature(make_spec, path):
    base = make_spec()
    assert with_value(base, path, WITHOUT_EFFECT[path]).signature == base.signature


@pytest.mark.parametrize("path", sorted(neutral_fields()))
def test_a_neutral_field_is_left_out_of_the_signature_only_at_its_neutral_value(make_spec, path):
    base = make_spec()
    assert get(base.identity(), path, "absent") == "absent"
    assert get(with_value(base, path, OTHER[path]).identity(), path) == OTHER[path]


def test_finished_runs_are_counted_in_the_headline(sweep):
    everything = {r.spec.signature for r in sweep}
    assert plan(sweep, everything).headline() == "24 runs: 24 finished before, 0 to train"
    assert plan(sweep).headline() == "24 runs: 24 to train in 4 stacks"


def test_planning_never_imports_torch():
    modules = "normbench.sweeps.plan, normbench.config.resolve, normbench.store, normbench.papers"
    code = f"import sys, {modules}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def by_batch(pack):
    """The cost of a stack: twice the batch takes twice as long."""
    return sum(spec.batch for spec in pack.specs)


def stacked(resolved, processes):
    made = stacks([r.spec for r in resolved], capacity=lambda spec: 8, processes=processes, cost=by_batch)
    return [(pack.specs[0].batch, len(pack.specs)) for pack in made]


def test_the_longest_stack_comes_first(make_sweep):
    assert stacked(make_sweep("batch=2,64,16", "seed=range(2)"), 2) == [(64, 2), (16, 2), (2, 2)]


def test_the_longest_stack_is_halved_for_a_free_process_even_if_another_is_wider(make_sweep):
    wide, long = make_sweep("batch=2", "seed=range(6)"), make_sweep("batch=64", "seed=range(2)")
    assert stacked([*wide, *long], 3) == [(64, 1), (64, 1), (2, 6)]


def test_a_wider_stack_is_halved_if_the_longest_has_a_single_lane(make_sweep):
    wide, long = make_sweep("batch=2", "seed=range(6)"), make_sweep("batch=64")
    assert stacked([*wide, *long], 3) == [(64, 1), (2, 3), (2, 3)]
