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
from normbench.data.shape import Shape
from normbench.diagnostics import CATALOGUE
from normbench.engine.probes.registry import check
from normbench.engine.train import train_stack
from normbench.errors import InputError

CPU = torch.device("cpu")
LENET = Shape(1, 32, 10, 64, 32)
SMALL = (
    "data=synthetic", "data.train_size=64", "data.test_size=32", "data.channels=1", "batch=8", "steps=20",
    "engine.precision=fp64", "optim.lr_scaling=none", "eval.every=4",
)  # fmt: skip
NETS = {
    "mlp": ("model=mlp", "model.hidden=[12,9]", "data.size=8", "norm=bn"),
    "sn": ("model=lenet5", "data.size=32", "norm=sn"),
    "bin": ("model=lenet5", "data.size=32", "norm=bin", "placement.sites=conv*"),
}
#: Requests that are slow at their default cadence or number.
BRIEF = {name: f"{name}:20" for name in ("layer_jacobian", "top_eigenvalue", "covariate_shift")}
ALL = "diagnostics=[" + ",".join(BRIEF.get(name, name) for name in CATALOGUE) + "]"


@cache
def trained(net: str, lanes: str):
    """Specs, data and results of the middle run alone, or of three runs of which the last diverges."""
    words = (*SMALL, *NETS[net], ALL)
    middle = [*words, "seed=5", "optim.lr=0.1"]
    others = [[*words, "seed=3", "optim.lr=0.02"], [*words, "seed=4", "optim.lr=1e37"]]
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


@pytest.mark.parametrize("net", ["mlp", pytest.param("sn", marks=pytest.mark.slow)])
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


#: Norms of which every other one shares the code that probes touch; the rest are tested by `make test-slow`.
QUICK = {"bn", "bin", "brn", "cbn", "gn", "noisy_bn", "online", "sn"}


@pytest.mark.parametrize(
    "key",
    [key if key in QUICK else pytest.param(key, marks=pytest.mark.slow) for key in sorted(norms.catalogue())],
)
def test_training_does_not_change_by_a_bit_with_diagnostics(make_sweep, key):
    words = ["model=lenet5", "data=synthetic", "data.train_size=64", "data.test_size=32", "data.channels=1"]
    words += ["data.size=32", "batch=8", "steps=6", "eval.every=3", "optim.lr=0.02", "model.dropout=0.2"]
    words += [f"norm={key}", *SITES.get(key, []), "seed=1,2"]
    words += ["norm.momentum=0.1,0.3"] if key in ("bn", "brn") else []  # two banks a lane
    brief = {"layer_jacobian": "layer_jacobian@7.0", "top_eigenvalue": "top_eigenvalue@2"}
    every = "diagnostics=[" + ",".join(f"{brief.get(name, name)}:2" for name in CATALOGUE) + "]"
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


def test_power_iteration_finds_the_top_eigenvalue_of_the_whole_hessian(make_spec):
    words = [*SMALL, "model=mlp", "model.hidden=[5]", "data.size=4", "norm=bn", "steps=3", "batch=16"]
    spec = make_spec(*words, "diagnostics=[top_eigenvalue@200]")
    dataset = data.load(spec.data)
    (result,) = train_stack([spec], dataset, CPU)
    network = probes_alone.network_of(spec, dataset, result.final_state)
    x, y = probes_alone.batch_of(spec, dataset, 2)
    parameters = list(network.parameters())
    loss = torch.nn.functional.cross_entropy(network(x)[:, 0], y[:, 0])
    g = torch.cat([t.flatten() for t in torch.autograd.grad(loss, parameters, create_graph=True)])
    rows = [torch.autograd.grad(each, parameters, retain_graph=True, materialize_grads=True) for each in g]
    hessian = torch.stack([torch.cat([t.flatten() for t in row]) for row in rows])
    eigenvalues = torch.linalg.eigvalsh((hessian + hessian.T) / 2)
    top = eigenvalues[eigenvalues.abs().argmax()].item()
    assert result.history[-1]["top_eigenvalue@200/eigenvalue"] == pytest.approx(top, rel=1e-3)


@pytest.mark.parametrize(
    ("key", "exists"), [("bn", True), ("gn", True), ("brn", False), ("mode", False), ("dbn", False)]
)
def test_norms_that_cannot_be_differentiated_twice_have_no_eigenvalue(make_spec, key, exists):
    words = [*SMALL, "model=lenet5", "data.size=32", "placement.sites=conv*", f"norm={key}", "steps=1"]
    spec = make_spec(*words, "diagnostics=[top_eigenvalue@1]")
    (result,) = train_stack([spec], data.load(spec.data), CPU)
    assert (result.metrics["top_eigenvalue@1/eigenvalue"] is not None) == exists


def test_norms_without_batch_statistics_and_batches_of_one_image_have_no_batch_noise(make_spec):
    found = {}
    for norm, batch in (("gn", 8), ("bn", 8), ("bn", 2)):
        words = [*SMALL, "model=mlp", "model.hidden=[8]", "data.size=4", f"norm={norm}", f"batch={batch}"]
        spec = make_spec(*words, "diagnostics=[batch_noise]", "workers=2")
        (result,) = train_stack([spec], data.load(spec.data), CPU)
        found[norm, batch] = result.metrics["batch_noise/relative"]
    assert found["gn", 8] < 1e-12 < found["bn", 8] < found["bn", 2]


def test_the_jacobian_of_a_linear_net_has_the_singular_values_of_its_weights(make_spec):
    words = [*SMALL, "model=mlp", "model.hidden=[7]", "data.size=4", "norm=none", "model.init=orthogonal"]
    spec = make_spec(*words, "steps=1", "optim.lr=1e-12", "diagnostics=[layer_jacobian@3,layer_jacobian]")
    dataset = data.load(spec.data)
    (result,) = train_stack([spec], dataset, CPU)
    (row,) = [row for row in result.diagnostics if row["name"] == "layer_jacobian@3/quantiles"]
    head = probes_alone.network_of(spec, dataset, result.final_state).body[-1].weight[0]
    values = torch.linalg.svdvals(head.detach())
    assert_close(row["layers"]["3"][0], values.min().item())
    assert_close(row["layers"]["3"][-1], values.max().item())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model=lenet5", "diagnostics=[layer_jacobian@conv9]"], "unknown layer of layer_jacobian 'conv9'"),
        (["model=vgg11", "diagnostics=[layer_jacobian]"], "is 16384×1024, more than 2,097,152"),
    ],
)
def test_a_jacobian_that_does_not_exist_or_is_too_large_is_refused(make_spec, words, said):
    spec = make_spec(*SMALL, "data.size=32", *words)
    with pytest.raises(InputError, match=said):
        check(spec, data.load(spec.data).shape)
    check(make_spec(*SMALL, "model=lenet5", "data.size=32", "diagnostics=[layer_jacobian@conv2]"), LENET)
