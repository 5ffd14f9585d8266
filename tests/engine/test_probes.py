"""Every diagnostic equals a slow computation for a run alone, also beside a lane that diverges."""

from __future__ import annotations

import math
from functools import cache

import pytest
import torch

from engine import probes_alone
from normbench import data, norms
from normbench.config.compose import compose
from normbench.config.resolve import resolve
from normbench.diagnostics import CATALOGUE
from normbench.engine.train import train_stack

CPU = torch.device("cpu")
SMALL = (
    "data=synthetic", "data.train_size=64", "data.test_size=32", "data.channels=1", "batch=8", "steps=20",
    "engine.precision=fp64", "optim.lr_scaling=none", "eval.every=4",
)  # fmt: skip
NETS = {
    "mlp": ("model=mlp", "model.hidden=[12,9]", "data.size=8", "norm=bn"),
    "sn": ("model=lenet5", "data.size=32", "norm=sn"),
    "bin": ("model=lenet5", "data.size=32", "norm=bin", "placement.sites=conv*"),
}
ALL = "diagnostics=[" + ",".join(CATALOGUE) + "]"


@cache
def trained(net: str, lanes: str):
    """Specs, data and results of the middle run alone, or of three runs of which the last diverges."""
    words = (*SMALL, *NETS[net], ALL)
    middle = [*words, "seed=5", "optim.lr=0.1"]
    others = [[*words, "seed=3", "optim.lr=0.02"], [*words, "seed=4", "optim.lr=1e200"]]
    runs = [middle] if lanes == "alone" else [others[0], middle, others[1]]
    specs = [resolve(config).spec for each in runs for config in compose(tuple(each))]
    dataset = data.load(specs[0].data)
    return specs, dataset, train_stack(specs, dataset, CPU)


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("name", CATALOGUE)
def test_a_diagnostic_is_what_a_slow_computation_gives_for_a_run_alone(name, net):
    (spec,), dataset, (result,) = trained(net, "alone")
    network = probes_alone.network_of(spec, dataset, result.final_state)
    expected = getattr(probes_alone, name)(spec, dataset, network, result)
    assert set(expected) == set(CATALOGUE[name].quantities)
    for quantity, value in expected.items():
        found = result.history[-1][f"{name}/{quantity}"]
        if value is None:
            assert found is None
        else:
            assert found == pytest.approx(float(value), rel=1e-6, abs=1e-9), quantity


@pytest.mark.parametrize("net", ["mlp", "sn"])
def test_lane_2_of_3_has_the_diagnostics_of_the_run_alone_while_another_lane_diverges(net):
    _, _, (alone,) = trained(net, "alone")
    _, _, (_, middle, diverged) = trained(net, "of three")
    assert diverged.diverged_at is not None and middle.diverged_at is None
    names = [name for name in alone.metrics if "/" in name]
    assert len(names) == sum(len(entry.quantities) for entry in CATALOGUE.values())
    for point, other in zip(alone.history, middle.history, strict=True):
        assert point.keys() == other.keys()
        for name in point:
            if "/" in name:
                assert_close(point[name], other[name])
    assert all(diverged.metrics[name] is None for name in names)
    assert [(r["step"], r["name"]) for r in alone.diagnostics] == [
        (r["step"], r["name"]) for r in middle.diagnostics
    ]
    for one, other in zip(alone.diagnostics, middle.diagnostics, strict=True):
        assert_close(one["layers"], other["layers"])


def assert_close(one, other):
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_close(one[key], other[key])
    elif isinstance(one, list):
        for a, b in zip(one, other, strict=True):
            assert_close(a, b)
    elif one is None:
        assert other is None
    else:
        assert other == pytest.approx(one, rel=1e-6, abs=1e-9)


SITES = {key: ["placement.sites=conv*"] for key in ("bin", "bnet", "dbn", "in", "mixture")}
SITES["ghost"] = ["norm.args.ghost_size=4"]


@pytest.mark.parametrize("key", sorted(norms.catalogue()))
def test_training_does_not_change_by_a_bit_with_diagnostics(make_sweep, key):
    words = ["model=lenet5", "data=synthetic", "data.train_size=64", "data.test_size=32", "data.channels=1"]
    words += ["data.size=32", "batch=8", "steps=6", "eval.every=3", "optim.lr=0.02", "model.dropout=0.2"]
    words += [f"norm={key}", *SITES.get(key, []), "seed=1,2"]
    words += ["norm.momentum=0.1,0.3"] if key in ("bn", "brn") else []  # two banks a lane
    every = "diagnostics=[" + ",".join(f"{name}:2" for name in CATALOGUE) + "]"
    plain, probed = ([r.spec for r in make_sweep(*words, *more)] for more in ((), (every,)))
    dataset = data.load(plain[0].data)
    for one, other in zip(train_stack(plain, dataset, CPU), train_stack(probed, dataset, CPU), strict=True):
        assert one.final_state.keys() == other.final_state.keys()
        for name, t in one.final_state.items():
            assert torch.equal(t, other.final_state[name]), name
        for point, same in zip(one.history, other.history, strict=True):
            assert point.items() <= same.items()


def test_a_number_that_does_not_exist_is_none_and_never_nan(make_spec):
    spec = make_spec(*SMALL, *NETS["mlp"], "norm=none", ALL)
    (result,) = train_stack([spec], data.load(spec.data), CPU)
    for name in ("running_error/mean_max", "affine_histogram/gamma_mean", "small_gamma/share"):
        assert result.metrics[name] is None
    values = [v for point in result.history for v in point.values() if v is not None]
    assert all(math.isfinite(value) for value in values)
