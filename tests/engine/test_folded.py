"""Evaluation with folded norms gives the numbers of evaluation without."""

from __future__ import annotations

import pytest
import torch

import normbench.engine.evaluate as evaluation
from normbench import data
from normbench.conditions import Condition
from normbench.engine import folded as module
from normbench.engine.evaluate import evaluate
from normbench.engine.lane_assignment import running_norms
from normbench.engine.stack import Stack
from normbench.sources import parse_source

SMALL = [
    "data=synthetic", "data.train_size=64", "data.test_size=40", "data.channels=1", "data.classes=4",
    "batch=16", "steps=20", "engine.precision=fp64",
]  # fmt: skip
NETS = {
    "mlp": ["model=mlp", "model.hidden=[8,6]", "data.size=8"],
    "lenet5": ["model=lenet5", "data.size=32", "weight=ws"],
    "resnet20": ["model=resnet20", "data.size=8"],
}
SOURCES = ("running", "batch", "precise", "adapt", "adapt:16:8", "blend:0.2")


@pytest.fixture
def stack(make_spec):
    def made(*words):
        specs = [make_spec(*SMALL, *words, f"seed={seed}") for seed in (0, 1)]
        stack = Stack(specs, data.load(specs[0].data), torch.device("cpu"))
        for step in range(3):
            stack.step(step)
        return stack, data.load(specs[0].data)

    return made


@pytest.mark.parametrize("net", NETS)
def test_folded_norms_give_the_same_metrics_under_every_source(net, stack, monkeypatch):
    trained, dataset = stack(*NETS[net], "norm=bn")
    conditions = [Condition(parse_source(source)) for source in SOURCES]
    before = {name: t.clone() for name, t in trained.network.state_dict().items()}
    plain = evaluate(trained.network, dataset, trained.spec, conditions, metrics=("nll", "ece"))
    calls = []

    def counted(*given):
        used = module.folded(*given)
        calls.append(len(running_norms(used)))
        return used

    monkeypatch.setattr(module, "FROM", 1)
    monkeypatch.setattr(evaluation, "folded", counted)
    found = evaluate(trained.network, dataset, trained.spec, conditions, metrics=("nll", "ece"))
    for one, other in zip(plain[0], found[0], strict=True):
        assert other == pytest.approx(one, rel=1e-9)
    assert calls == [0] * 4  # running, precise, adapt, adapt with a prior
    assert trained.network.training
    assert all(torch.equal(t, before[name]) for name, t in trained.network.state_dict().items())


def test_a_small_split_and_half_precisions_and_norms_without_statistics_are_left_alone(stack, make_spec):
    trained, _ = stack(*NETS["mlp"], "norm=bn")
    network = trained.network.eval()
    half = make_spec(*SMALL[:-1], *NETS["mlp"], "norm=bn", "engine.precision=bf16")
    assert module.folded(network, trained.spec, module.FROM - 1) is network
    assert module.folded(network, half, module.FROM) is network
    assert not running_norms(module.folded(network, trained.spec, module.FROM))
    grouped = stack(*NETS["mlp"], "norm=gn")[0]
    assert module.folded(grouped.network.eval(), grouped.spec, module.FROM) is grouped.network
