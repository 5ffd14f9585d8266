"""What each source of statistics makes of one network, against moments taken by hand."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from normbench import data, models, norms
from normbench.data.batches import Batches, Standardize
from normbench.engine import source_check
from normbench.engine.arrangement import arranged, shuffled
from normbench.engine.evaluate import evaluate, lane_losses
from normbench.engine.lane_assignment import LaneAssignment, running_norms
from normbench.engine.mixed_statistics import _as_if_running
from normbench.errors import InputError
from normbench.norms.running import RunningNorm
from normbench.store import Store
from normbench.sweeps.get_or_train import Sweep

SMALL = [
    "data=synthetic", "data.train_size=64", "data.test_size=32", "data.channels=1", "data.size=8", "batch=4",
    "engine.precision=fp64", "model=mlp", "norm.eps=0.01", "engine.processes=1", "engine.device=cpu",
]  # fmt: skip
EVERY = (
    "eval.statistics=[running,batch,batch:class_pure,batch:class_disjoint,precise,precise:16,precise:mean_var,"
    "precise:mean_var:8,adapt,adapt:3,adapt:6,adapt:8:16,adapt:1:4,blend:0.3]"
)


@torch.enable_grad()
def trained(specs, dataset, steps=6, lr=0.3):
    """A network as a run leaves it after a few steps of plain gradient descent."""
    assignment = LaneAssignment(specs)
    network = models.build(assignment.lanes, dataset.shape)
    assignment.add_banks(network)
    network.double().to(memory_format=torch.channels_last)
    seeds = [s.seed for s in assignment.lanes]
    batches = Batches(dataset, seeds, specs[0].total, channels_last=True, dtype=torch.float64)
    for step in range(steps):
        network.begin_step(step, steps)
        x, y = batches.at(step)
        loss = lane_losses(network(x), y, 0.0).mean(0).sum()
        gradients = torch.autograd.grad(loss, list(network.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(network.parameters(), gradients, strict=True):
                parameter -= lr * gradient
    return network


@pytest.fixture(params=["center=true", "scale=false", "center=false"])
def one_norm(make_spec, request):
    """An MLP with one norm, whole or half: data, network, its loss if the norm has this mean and variance."""
    spec = make_spec(*SMALL, "model.hidden=[12]", EVERY, f"norm.args.{request.param}")
    dataset = data.load(spec.data)
    network = trained([spec], dataset)
    (layer,) = running_norms(network)
    weight, head = (m.weight[0] for m in network.modules() if type(m).__name__ == "Linear")
    bias = [m.bias for m in network.modules() if getattr(m, "weight", None) is not None][-1]
    train, test = (
        (Standardize(dataset, 1, False, torch.float64)(images).flatten(1) @ weight.T).detach()
        for images in (dataset.train_images, dataset.test_images)
    )

    def loss(mean, var, of=slice(None)):
        centred = test[of] - mean if layer.center else test[of]
        hidden = layer.weight * centred / ((var + 0.01).sqrt() if layer.scale else 1) + layer.bias
        return F.cross_entropy(hidden.relu() @ head.T + bias, dataset.test_labels[of]).item()

    return spec, dataset, network, train, test, loss


def pooled(h):
    return h.mean(0), h.var(0, correction=0)


@torch.no_grad()
def test_every_source_is_its_formula_for_one_norm(one_norm):
    spec, dataset, network, train, test, loss = one_norm
    (layer,) = running_norms(network)
    m, v = layer.running_mean.clone(), layer.running_var.clone()
    (found,) = evaluate(network, dataset, spec, spec.eval.conditions)[0]
    some, few = train[shuffled(64)], test[shuffled(32)]
    expected = {"": loss(m, v), "@precise": loss(*pooled(train)), "@adapt": loss(*pooled(test))}
    expected["@precise:16"] = loss(*pooled(some[:16]))
    for n, name in ((64, "@precise:mean_var"), (8, "@precise:mean_var:8")):
        mean_of_variances = torch.stack([b.var(0) for b in some[:n].split(4)]).mean(0)
        expected[name] = loss(some[:n].mean(0), mean_of_variances)
    expected["@adapt:3"] = loss(*pooled(few[:3]))
    expected["@adapt:6"] = loss(*pooled(few[:4]))  # two images do not fill a batch of four
    for n, prior in ((8, 16), (1, 4)):
        own_mean, own_var = pooled(few[:n])
        mean = (prior * m + n * own_mean) / (n + prior)
        var = (prior * v + n * own_var) / (n + prior)
        expected[f"@adapt:{n}:{prior}"] = loss(mean, var)
    mixed_mean = 0.3 * test + 0.7 * m
    mixed_square = 0.3 * test.square() + 0.7 * (v + m.square())
    expected["@blend:0.3"] = loss(mixed_mean, mixed_square - mixed_mean.square())
    for suffix, value in expected.items():
        assert found[f"test_loss{suffix}"] == pytest.approx(value, rel=1e-9), suffix
    distinct = {round(value, 9) for value in expected.values()}
    if layer.scale:  # pooled variances and their mean differ
        assert len(distinct) == len(expected)
    else:
        assert len(distinct) > len(expected) / 2
    for form in ("", "class_pure", "class_disjoint"):
        order = arranged(dataset.test_labels, 4, form)
        losses = [loss(*pooled(test[group]), of=group) for group in order.split(4)]
        name = "test_loss@batch" + (f":{form}" if form else "")
        assert found[name] == pytest.approx(sum(losses) / len(losses), rel=1e-9)


def test_arrangements_use_each_image_once_and_keep_their_promise():
    labels = torch.tensor([0] * 9 + [1] * 5 + [2] * 4 + [3] * 1)
    pure, disjoint = (arranged(labels, 3, form) for form in ("class_pure", "class_disjoint"))
    assert sorted(labels[pure].tolist()) == [0] * 9 + [1] * 3 + [2] * 3
    assert all(len(set(group.tolist())) == 1 for group in labels[pure].split(3))
    assert all(len(set(group.tolist())) == 3 for group in labels[disjoint].split(3))
    assert len(disjoint) == 15  # of class 0 there are more images than groups can take
    for order in (pure, disjoint):
        assert len(set(order.tolist())) == len(order)
    assert not torch.equal(arranged(torch.arange(50) % 5, 5, "class_pure").sort().indices, torch.arange(50))


def test_images_under_a_prior_are_shown_what_the_mixture_makes_of_them(make_spec):
    """schneider2020: a deeper norm sees the output of adapted ones, not of the batch's own statistics."""
    spec = make_spec(*SMALL, "model.hidden=[12,9]", "eval.statistics=[adapt:8:4]")
    dataset = data.load(spec.data)
    network = trained([spec], dataset)
    first, second = running_norms(network)
    taken = dataset.test_images[shuffled(32)[:8]]
    x = Standardize(dataset, 1, False, torch.float64)(taken).flatten(1)
    one, two, _ = (m.weight[0] for m in network.modules() if type(m).__name__ == "Linear")
    seen = []
    pair = ("running_mean", "running_var")
    hook = second.register_forward_hook(lambda m, *_: seen.append([getattr(m, n).clone() for n in pair]))
    with torch.no_grad():
        h = x @ one.T
        (own_mean, own_var), share = pooled(h), 8 / 12
        mean = first.running_mean.lerp(own_mean, share)
        var = first.running_var.lerp(own_var, share)
        deeper = (first.weight * (h - mean) / (var + 0.01).sqrt() + first.bias).relu() @ two.T
        source = [getattr(second, name) for name in pair]
        expected = [a.lerp(b, share) for a, b in zip(source, pooled(deeper), strict=True)]
        evaluate(network, dataset, spec, spec.eval.conditions[1:])
    hook.remove()
    assert all(torch.allclose(a, b, rtol=1e-9) for a, b in zip(seen[-1], expected, strict=True))


RUNNING = sorted(key for key, entry in norms.REGISTRY.items() if issubclass(entry.layer, RunningNorm))


@pytest.mark.parametrize("key", RUNNING)
def test_norms_declare_truly_whether_they_standardize(key):
    """One that does sees no difference between other statistics and an input that makes up for them."""
    layer = norms.build(key, 4).double().eval()
    if key == "bin":  # a new one is bn
        layer.gate.data.fill_(0.5)
    torch.manual_seed(0)
    x = torch.randn(8, 4, 3, 3, dtype=torch.float64) * 2 + 1
    if not {"running_mean", "running_var"} <= dict(layer.named_buffers(recurse=False)).keys():
        assert not layer.standardizes
        return
    layer.running_var.uniform_(0.5, 2)
    before = layer(x)
    assert torch.allclose(_as_if_running(layer, x, 0.0), x)
    mean, var, eps = layer.running_mean.clone(), layer.running_var.clone(), layer.eps
    layer.running_mean.uniform_(-1, 1)
    layer.running_var.uniform_(0.5, 2)
    along = [t.view(1, -1, 1, 1) for t in (mean, var, layer.running_mean, layer.running_var)]
    made_up = along[2] + (x - along[0]) * ((along[3] + eps) / (along[1] + eps)).sqrt()
    same = torch.allclose(layer(made_up), before, rtol=1e-9)
    # mixture standardizes too, but has further statistics that would have to move with the pair
    assert same == (layer.standardizes or key == "mixture")


MANY = ["bn", "brn", "online", "cbn", "l1bn", "iternorm", "streaming", "power", "mode", "sn", "ebn"]


@pytest.mark.parametrize("key", MANY)
def test_lanes_have_what_lone_runs_have_under_every_source_and_all_is_put_back(make_spec, key):
    sources = EVERY if key in ("bn", "brn", "online", "cbn") else EVERY.replace(",adapt:1:4,blend:0.3", "")
    words = [*SMALL, "model.hidden=[12,9]", f"norm={key}", sources, "model.dropout=0.3"]
    if key in ("iternorm", "mode"):
        words = [word for word in words if "norm.eps" not in word]
    specs = [make_spec(*words), make_spec(*words, "seed=1")]
    dataset = data.load(specs[0].data)
    network = trained(specs, dataset, steps=3, lr=0.01)
    before = {name: t.clone() for name, t in network.state_dict().items()}
    places = [t.data_ptr() for t in network.state_dict().values()]
    conditions = specs[0].eval.conditions
    (stack,) = evaluate(network, dataset, specs[0], conditions)
    assert all(torch.equal(before[name], t) for name, t in network.state_dict().items())
    assert places == [t.data_ptr() for t in network.state_dict().values()]
    assert all(not m._forward_pre_hooks for m in network.modules())
    assert all(module.training for module in network.modules())
    assert evaluate(network, dataset, specs[0], conditions) == [stack]
    (alone,) = evaluate(trained(specs[1:], dataset, steps=3, lr=0.01), dataset, specs[1], conditions)[0]
    for name in alone:
        assert stack[1][name] == pytest.approx(alone[name], rel=1e-7), name


def test_banks_have_their_own_values_under_sources_that_read_running_statistics(make_spec):
    words = [*SMALL, "model.hidden=[12,9]", "eval.statistics=[running,adapt:8:8,blend:0.2,precise]"]
    specs = [make_spec(*words, f"norm.momentum={m}") for m in ("0.1", "0.5")]
    dataset = data.load(specs[0].data)
    banks = evaluate(trained(specs, dataset), dataset, specs[0], specs[0].eval.conditions, banks=2)
    for name, differ in (("@adapt:8:8", True), ("@blend:0.2", True), ("@precise", False)):
        one, other = (lanes[0][f"test_loss{name}"] for lanes in banks)
        assert (one != other) == differ
    for spec, lanes in zip(specs, banks, strict=True):
        assert evaluate(trained([spec], dataset), dataset, spec, spec.eval.conditions)[0] == lanes


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["norm=sn", "eval.statistics=[blend:0.1]"], "norm=sn cannot serve eval.statistics=blend:0.1"),
        (["norm=l1bn", "eval.statistics=[blend:0.1]"], "norm=l1bn cannot serve"),
        (["norm=ebn", "eval.statistics=[blend:0.1]"], "norm=ebn cannot serve"),
        (["norm.args.track=false", "eval.statistics=[blend:0.1]"], "keeps no"),
        (["eval.statistics=[adapt:33]"], "33 test images, but the split has 32"),
        (["eval.statistics=[precise:65]"], "65 training images, but the split has 64"),
        (["eval.statistics=[adapt:1]"], "eval.statistics=adapt:1: site .*at least 2 values"),
        (["batch=16", "eval.statistics=[batch:class_disjoint]"], "as many images as classes, 10; got 16"),
        (["eval.corruptions=[saturate:1]"], "saturate needs colour"),
    ],
)
def test_what_cannot_be_served_is_refused_by_name_and_nothing_is_written(
    make_sweep, tmp_path, words, message
):
    own = [word for word in SMALL if not word.startswith("norm.eps")]
    sweep = Sweep(make_sweep(*own, "model.hidden=[8]", *words), Store(tmp_path / "store"))
    with pytest.raises(InputError, match=message) as error:
        sweep.train()
    assert "\n" not in str(error.value)
    assert not list((tmp_path / "store").rglob("record.json"))


def test_norms_without_running_statistics_are_served_every_source(make_spec):
    spec = make_spec(*[w for w in SMALL if "norm.eps" not in w], "norm=gn", "model.hidden=[16]", EVERY)
    dataset = data.load(spec.data)
    source_check.check(spec, dataset.shape)
    (found,) = evaluate(trained([spec], dataset), dataset, spec, spec.eval.conditions)[0]
    assert len({value for name, value in found.items() if name.startswith("test_loss")}) == 1
