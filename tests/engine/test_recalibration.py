"""Recalibration: statistics of many images, compared with moments by hand; the network does not change."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from itertools import pairwise

import pytest
import torch
from torch.nn import functional as F

from normbench import data, models, norms
from normbench.conditions import Condition
from normbench.data.batches import Batches, Standardize
from normbench.engine import evaluate as evaluation
from normbench.engine.evaluate import evaluate, lane_losses
from normbench.engine.lane_assignment import LaneAssignment, running_norms
from normbench.engine.recalibration import PooledMoments, recalibrated
from normbench.engine.train import train_stack
from normbench.sources import parse_source

CPU = torch.device("cpu")
SOURCE_NAMES = ("running", "batch", "precise", "adapt")
SOURCES = f"eval.statistics=[{','.join(SOURCE_NAMES)}]"
SMALL = ["data=synthetic", "data.train_size=64", "data.test_size=16", "data.channels=1", "data.size=8"]
SMALL += ["batch=4", "engine.precision=fp64", SOURCES]
MLP = ["model=mlp", "model.hidden=[12,9]", *SMALL, "norm.eps=0.01"]
#: Norms for maps of several positions, which LeNet-5's fully connected layers do not have.
ON_MAPS = ("in", "bin", "bnet", "dbn", "mixture")


def under(sources):
    """The conditions of evaluation with sources of statistics, on images as they are."""
    return [Condition(parse_source(source)) for source in sources]


@torch.enable_grad()
def trained(specs, dataset, steps=6, lr=0.3):
    """A network after a few steps of plain gradient descent."""
    assignment = LaneAssignment(specs)
    network = models.build(assignment.lanes, dataset.shape)
    assignment.add_banks(network)
    network.double().to(memory_format=torch.channels_last)
    batches = Batches(
        dataset, [s.seed for s in assignment.lanes], specs[0].total, channels_last=True, dtype=torch.float64
    )
    for step in range(steps):
        network.begin_step(step, steps)
        x, y = batches.at(step)
        loss = lane_losses(network(x), y, 0.0).mean(0).sum()
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                parameter -= lr * gradient
    return network


def one_lane(make_spec, *words):
    spec = make_spec(*MLP, *words)
    dataset = data.load(spec.data)
    return spec, dataset, trained([spec], dataset)


def images_of(dataset, split):
    return Standardize(dataset, 1, False, torch.float64)(getattr(dataset, f"{split}_images")).flatten(1)


def linears(network):
    return {name: m.weight[0] for name, m in network.named_modules() if type(m).__name__ == "Linear"}


def batch_norm(h, mean, var, layer):
    return layer.weight * (h - mean) / (var + 0.01).sqrt() + layer.bias


def by_chunks(h, size, layer):
    """The output of batch norm for consecutive batches of `size` images."""
    return torch.cat([batch_norm(b, b.mean(0), b.var(0, correction=0), layer) for b in h.split(size)])


def moments(h):
    return h.mean(0), h.var(0, correction=0)


@torch.no_grad()
def test_precise_and_adapt_use_the_moments_of_all_training_or_all_test_images(make_spec):
    """With one norm the result depends neither on the order nor on the batches."""
    spec, dataset, network = one_lane(make_spec, "model.hidden=[12]")
    (metrics,) = evaluate(network, dataset, spec, under(spec.eval.statistics))[0]
    (layer,), (weight, head) = running_norms(network), linears(network).values()
    bias = [m.bias for m in network.modules() if getattr(m, "weight", None) is not None][-1]
    for source, split in (("precise", "train"), ("adapt", "test")):
        mean, var = moments(images_of(dataset, split) @ weight.T)
        hidden = batch_norm(images_of(dataset, "test") @ weight.T, mean, var, layer).relu()
        logits = hidden @ head.T + bias
        loss = F.cross_entropy(logits, dataset.test_labels)
        assert metrics[f"test_loss@{source}"] == pytest.approx(loss.item(), rel=1e-9)
        error = (logits.argmax(1) != dataset.test_labels).double().mean()
        assert metrics[f"test_error@{source}"] == pytest.approx(error.item())
    losses = sorted(value for name, value in metrics.items() if name.startswith("test_loss"))
    assert len(losses) == 4
    assert min(b - a for a, b in pairwise(losses)) > 1e-4


@torch.no_grad()
def test_a_deeper_norm_gets_values_that_were_normalized_by_batch_statistics(make_spec):
    spec, dataset, network = one_lane(make_spec)
    (first, second), (one, two, _) = running_norms(network), linears(network).values()
    x = images_of(dataset, "train")
    h = x @ one.T
    found = {}
    for size in (4, 16):
        taken = [b.view(size, 1, 8, 8) for b in x.split(size)]
        for layer in (first, second):
            layer.batch = size
        with recalibrated(network, taken, spec.engine):
            found[size] = [(n.running_mean.clone(), n.running_var.clone()) for n in (first, second)]
        deeper = by_chunks(h, size, first).relu() @ two.T
        for (mean, var), values in zip(found[size], (h, deeper), strict=True):
            assert torch.allclose(mean, values.mean(0), rtol=1e-9)
            assert torch.allclose(var, values.var(0, correction=0), rtol=1e-9)
    # the first norm does not depend on the batch; the second does, and differs from one batch of all images
    assert torch.allclose(found[4][0][1], found[16][0][1], rtol=1e-9)
    assert not torch.allclose(found[4][1][1], found[16][1][1], rtol=1e-2)
    giant = by_chunks(h, len(h), first).relu() @ two.T
    assert not torch.allclose(found[4][1][1], giant.var(0, correction=0), rtol=1e-2)
    # the variance is not the mean of batch variances, as running statistics have it
    ghosts = torch.stack([b.var(0) for b in h.split(4)]).mean(0)
    assert not torch.allclose(found[4][0][1], ghosts, rtol=1e-2)


def test_adapting_to_one_batch_equals_evaluation_with_its_batch_statistics(make_spec):
    """Recalibration has no Bessel's correction; running statistics have it."""
    spec, dataset, network = one_lane(make_spec, "data.test_size=4")
    (metrics,) = evaluate(network, dataset, spec, under(spec.eval.statistics))[0]
    assert metrics["test_loss@adapt"] == pytest.approx(metrics["test_loss@batch"], rel=1e-9)
    assert abs(metrics["test_loss@adapt"] - metrics["test_loss"]) > 1e-3
    layer = norms.build("bn", 5, momentum=1.0, eps=1e-12, affine=False).double()
    x = torch.randn(6, 5, dtype=torch.float64)
    assert torch.allclose(layer(x) * (5 / 6) ** 0.5, layer.eval()(x), rtol=1e-9)


def test_adapting_to_the_training_images_equals_precise(make_spec):
    spec, dataset, network = one_lane(make_spec)
    same = replace(dataset, test_images=dataset.train_images, test_labels=dataset.train_labels)
    (metrics,) = evaluate(network, same, spec, under(spec.eval.statistics))[0]
    assert metrics["test_loss@adapt"] == metrics["test_loss@precise"]
    assert metrics["test_loss@precise"] != metrics["test_loss"]


@torch.no_grad()
def test_other_statistics_are_means_over_the_batches_of_all_workers(make_spec):
    spec, dataset, network = one_lane(make_spec, "norm=l1bn", "workers=2")
    (first, _), (one, *_) = running_norms(network), linears(network).values()
    x = images_of(dataset, "train")
    batches = (x @ one.T).split(4)
    own = torch.stack([(b - b.mean(0)).abs().mean(0) for b in batches]).mean(0) * (torch.pi / 2) ** 0.5
    with recalibrated(network, [b.view(8, 1, 8, 8) for b in x.split(8)], spec.engine):
        assert torch.allclose(first.running_deviation, own, rtol=1e-9)


def everything(network):
    """Everything of a network that training reads: tensors, and other attributes of its norms."""
    tensors = dict([*network.named_parameters(), *network.named_buffers()])
    names = ("training", "step", "momenta", "banks", "after_phase_change", "source")
    others = [{name: getattr(module, name, None) for name in names} for module in network.modules()]
    places = [(name, t.data_ptr(), t.stride()) for name, t in tensors.items()]
    hooks = [list(module._forward_pre_hooks) for module in network.modules()]
    return {name: t.clone() for name, t in tensors.items()}, [*places, *others, *hooks]


def assert_untouched(network, before):
    now = everything(network)
    assert now[1] == before[1]
    assert all(torch.equal(now[0][name], t) for name, t in before[0].items())


@pytest.mark.parametrize("key", sorted(norms.catalogue()))
def test_for_every_norm_lanes_have_the_metrics_of_lone_runs_and_the_network_is_restored(make_spec, key):
    args = getattr(import_module(f"oracles.{key}"), "FITTING", {})
    words = ["model=lenet5", *SMALL, "data.size=32", f"norm={key}", "model.dropout=0.3"]
    words += [f"norm.args.{name}={value}" for name, value in args.items()]
    words += ["placement.sites=conv*"] * (key in ON_MAPS)
    spec = make_spec(*words)
    other = {"momentum": "cumulative"} if spec.norm.momentum is not None else {}
    specs = [spec, spec.model_copy(update={"seed": 1, "norm": spec.norm.model_copy(update=other)})]
    dataset = data.load(specs[0].data)
    network = trained(specs, dataset, steps=3, lr=0.01)
    before = everything(network)
    (stack,) = evaluate(network, dataset, specs[0], under(specs[0].eval.statistics))
    assert_untouched(network, before)
    assert evaluate(network, dataset, specs[0], under(specs[0].eval.statistics)) == [stack]
    alone_network = trained(specs[1:], dataset, steps=3, lr=0.01)
    (alone,) = evaluate(alone_network, dataset, specs[1], under(specs[1].eval.statistics))[0]
    for name in alone:
        assert stack[1][name] == pytest.approx(alone[name], rel=1e-7), name
    losses = [stack[0][f"test_loss{source}"] for source in ("", "@precise", "@adapt")]
    assert len(set(losses)) == (3 if running_norms(network) and key != "frozen" else 1)


@pytest.mark.parametrize(("words", "passes"), [(["norm=gn"], 1), (["norm.args.track=false"], 2)])
def test_a_network_without_running_statistics_is_not_recalibrated(make_spec, words, passes):
    spec, dataset, network = one_lane(make_spec, *words)
    calls = []
    network.register_forward_hook(lambda *call: calls.append(call))
    (metrics,) = evaluate(network, dataset, spec, under(spec.eval.statistics))[0]
    assert len(calls) == passes  # one more pass for @batch, if the norm has batch statistics
    assert metrics["test_loss"] == metrics["test_loss@precise"] == metrics["test_loss@adapt"]
    assert list(evaluate(network, dataset, spec)[0][0]) == ["test_loss", "test_error"]


def test_banks_share_the_metrics_of_recalibration(make_spec):
    specs = [make_spec(*MLP, f"norm.momentum={m}") for m in ("0.1", "0.01", "cumulative")]
    dataset = data.load(specs[0].data)
    network = trained(specs, dataset)
    before = everything(network)
    banks = evaluate(network, dataset, specs[0], under(SOURCE_NAMES), banks=3)
    assert_untouched(network, before)
    assert len({lanes[0]["test_loss"] for lanes in banks}) == 3
    assert len({lanes[0]["test_loss@precise"] for lanes in banks}) == 1
    for spec, lanes in zip(specs, banks, strict=True):
        (alone,) = evaluate(trained([spec], dataset), dataset, spec, under(SOURCE_NAMES))
        assert lanes == alone


def test_recalibration_changes_neither_weight_maps_nor_frozen_statistics(make_spec):
    spec, dataset, network = one_lane(make_spec, "weight=spectral", "model.dropout=0.4")
    before = everything(network)
    evaluate(network, dataset, spec, under(spec.eval.statistics))
    assert_untouched(network, before)
    spec, dataset, network = one_lane(make_spec, "norm=frozen", "norm.args.after=0.5")
    (metrics,) = evaluate(network, dataset, spec, under(spec.eval.statistics))[0]
    assert metrics["test_loss@precise"] == metrics["test_loss@adapt"] == metrics["test_loss"]
    assert metrics["test_loss@batch"] != metrics["test_loss"]


def test_precise_uses_at_most_IMAGES_images_and_at_least_one_step(make_spec, monkeypatch):
    spec, dataset, network = one_lane(make_spec, "eval.statistics=[precise]", "data.test_size=3")
    seen = []
    running_norms(network)[0].register_forward_hook(lambda m, x, y: seen.append((len(y), m.training)))
    for bound, batches in ((10_000, 16), (11, 2), (3, 1)):
        monkeypatch.setattr(evaluation, "IMAGES", bound)
        seen.clear()
        evaluate(network, dataset, spec, under(spec.eval.statistics))
        assert seen == [(4, True)] * batches + [(3, False)]
    spec = make_spec(*MLP, "eval.statistics=[adapt]")  # three test images do not fill a batch of four
    assert evaluate(network, dataset, spec, under(spec.eval.statistics))[0][0]["test_error@adapt"] is None


def test_moments_of_fp32_values_far_from_zero_are_accurate():
    torch.manual_seed(0)
    layer = norms.build("bn", 3)
    moments = PooledMoments(layer)
    batches = [torch.randn(2, 3, 5) * 0.5 + 100 for _ in range(2000)]
    for x in batches:
        moments.add(layer, (x,))
    moments.write()
    exact = torch.cat(batches).double()
    assert torch.allclose(layer.running_var.double(), exact.var((0, 2), correction=0), rtol=1e-4)
    assert torch.allclose(layer.running_mean.double(), exact.mean((0, 2)), rtol=1e-7)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_precise_statistics_repair_stale_running_statistics(make_spec, precision):
    """With momentum 0.001 running statistics are mostly the initial ones, although the weights are good."""
    words = ["model=mlp", "model.hidden=[32,32,32]", "batch=32", "steps=200", "optim.lr=0.4"]
    spec = make_spec(*words, "norm.momentum=0.001", f"engine.precision={precision}", SOURCES)
    (result,) = train_stack([spec], data.load(spec.data), CPU)
    errors = {name: value for name, value in result.metrics.items() if name.startswith("test_error")}
    assert list(errors) == ["test_error", "test_error@batch", "test_error@precise", "test_error@adapt"]
    assert errors["test_error"] > 0.15
    assert max(errors["test_error@precise"], errors["test_error@adapt"]) < 0.06


@pytest.mark.parametrize(
    ("sources", "passes"), [(("batch",), 1), (("running", "batch"), 2), (("precise",), 17)]
)
def test_only_the_sources_that_are_asked_for_are_evaluated(make_spec, sources, passes):
    spec, dataset, network = one_lane(make_spec)
    calls = []
    network.register_forward_hook(lambda *call: calls.append(call))
    (metrics,) = evaluate(network, dataset, spec, under(sources))[0]
    assert len(calls) == passes  # @precise: 16 training batches, then the test images
    assert len(metrics) == 2 * len(sources)
