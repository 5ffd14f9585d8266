"""Runs that differ only in a momentum that training never reads share one training, and keep their bits."""

from __future__ import annotations

import pytest
import torch

from normbench import data, models, norms
from normbench.config.resolve import declared
from normbench.engine.lane_assignment import LaneAssignment, running_norms
from normbench.engine.train import Listener, train_stack

CPU = torch.device("cpu")
BANKED = {key for key in norms.catalogue() if declared("norm", key)["banks"]}
MOMENTA = ("0.1", "0.9", "cumulative", "debiased:0.01", "linear:0.5:0.01")
WORDS = ["model=lenet5", "data=synthetic", "data.train_size=64", "data.test_size=32", "data.channels=1"]
QUICK = [*WORDS, "batch=8", "steps=12", "eval.every=5", "optim.lr=0.02", "data.size=32"]
NEEDED = {
    "bin": ["placement.sites=conv*"],
    "bnet": ["placement.sites=conv*"],
    "dbn": ["placement.sites=conv*"],
    "ghost": ["norm.args.ghost_size=4"],
}


def specs_of(make_sweep, key: str, *words: str) -> list:
    words = [*QUICK, f"norm={key}", *NEEDED.get(key, []), *words]
    return [each.spec for each in make_sweep(*words, f"norm.momentum={','.join(MOMENTA)}")]


@pytest.mark.parametrize("key", sorted(BANKED))
def test_runs_in_banks_have_the_bits_of_lone_runs(make_sweep, key):
    specs = specs_of(make_sweep, key, "steps=7", "eval.every=3")
    dataset = data.load(specs[0].data)
    results = train_stack(specs, dataset, CPU)
    for spec, banked in zip(specs, results, strict=True):
        (alone,) = train_stack([spec], dataset, CPU)
        assert banked.history == alone.history
        assert banked.metrics == alone.metrics
    assert len({result.metrics["test_loss"] for result in results}) == len(MOMENTA)
    assert len({result.metrics["train_loss"] for result in results}) == 1


def test_lanes_may_have_different_numbers_of_banks(make_sweep):
    """Three trainings with 5, 2 and 1 runs in one stack."""
    specs = [*specs_of(make_sweep, "bn", "seed=3"), *specs_of(make_sweep, "bn", "seed=1")[1:3]]
    specs.append(specs_of(make_sweep, "bn", "seed=2", "optim.lr=0.01")[3])
    assignment = LaneAssignment(specs)
    assert (len(assignment.lanes), assignment.banks) == (3, 5)
    assert assignment.of == [(0, 0), (0, 1), (0, 2), (0, 3), (0, 4), (1, 0), (1, 1), (2, 0)]
    dataset = data.load(specs[0].data)
    for spec, result in zip(specs, train_stack(specs, dataset, CPU), strict=True):
        (alone,) = train_stack([spec], dataset, CPU)
        for name, value in alone.metrics.items():
            assert result.metrics[name] == pytest.approx(value, rel=1e-4), name


def test_the_banks_in_the_yaml_files_agree_with_the_registry():
    read_only_in_evaluation = {
        key
        for key, entry in norms.catalogue().items()
        if declared("norm", key)["momentum"] is not None and not entry.reads_history
    }
    assert read_only_in_evaluation == BANKED


@pytest.mark.parametrize("key", sorted(set(norms.catalogue()) - BANKED))
def test_other_norms_have_no_banks(make_sweep, key):
    if declared("norm", key)["momentum"] is None:
        return
    specs = [each.spec for each in make_sweep(*QUICK, f"norm={key}", "norm.momentum=0.1,0.2")]
    assert len(LaneAssignment(specs).lanes) == 2


def test_a_run_in_a_bank_resumes_as_a_lone_run(make_sweep):
    specs = specs_of(make_sweep, "bn")
    dataset = data.load(specs[0].data)
    kept = []
    listener = Listener(checkpoint=lambda states: kept.append(states()))
    whole = train_stack(specs, dataset, CPU, listener)
    middle = kept[len(kept) // 2]
    assert 0 < middle[0]["step"] < 12
    for number in (0, 2, 4):
        (alone,) = train_stack([specs[number]], dataset, CPU, resume=[middle[number]])
        assert alone.history == whole[number].history
    again = train_stack(specs, dataset, CPU, resume=middle)
    assert [r.history for r in again] == [r.history for r in whole]


def test_using_a_bank_replaces_the_statistics_and_restores_them(make_sweep):
    specs = specs_of(make_sweep, "bn")
    dataset = data.load(specs[0].data)
    network = models.build(LaneAssignment(specs).lanes, dataset.shape)
    LaneAssignment(specs).add_banks(network)
    layer = running_norms(network)[0]
    layer.begin_step(0, 4)
    layer(torch.randn(8, 6, 4, 4))
    own = layer.running_mean.clone()
    with layer.using_bank(1):
        assert torch.allclose(layer.running_mean, 9 * own)
    assert torch.equal(layer.running_mean, own)
