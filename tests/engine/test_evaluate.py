"""Evaluation: where the statistics come from, over which images, and that it leaves the network as it was."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F

from normbench import data, rng
from normbench.conditions import Condition
from normbench.corruptions import Corruption
from normbench.data.corruption import corrupted
from normbench.engine.evaluate import evaluate
from normbench.engine.lane_assignment import running_norms
from normbench.engine.stack import Stack
from normbench.sources import parse_source

WORDS = [
    "model=mlp", "model.hidden=[8,6]", "data=synthetic", "data.train_size=96", "data.test_size=44",
    "data.channels=1", "data.size=8", "data.classes=4", "batch=16", "steps=30", "engine.precision=fp64",
    "optim.lr=0.1",
]  # fmt: skip


def under(*sources):
    """The conditions of evaluation with sources of statistics, on images as they are."""
    return [Condition(parse_source(source)) for source in sources]


@pytest.fixture
def trained(make_spec):
    """A stack of two lanes after some steps, whose running statistics are far from those of a batch."""

    def trained(*words):
        specs = [make_spec(*WORDS, "norm.momentum=0.01", *words, f"seed={seed}") for seed in (0, 1)]
        stack = Stack(specs, data.load(specs[0].data), torch.device("cpu"))
        for step in range(12):
            stack.step(step)
        return stack, data.load(specs[0].data)

    return trained


def logits_of(network, dataset, images):
    mean, std = (
        torch.tensor(m, dtype=torch.float64).view(-1, 1, 1) * 255 for m in (dataset.mean, dataset.std)
    )
    return network(((images.double() - mean) / std).repeat(1, network.lanes, 1, 1)).detach()


def metrics_of(logits, labels, lane):
    own = logits[:, lane]
    return F.cross_entropy(own, labels).item(), (own.argmax(1) != labels).double().mean().item()


def test_running_statistics_see_every_test_image_once(trained):
    stack, dataset = trained()
    found = evaluate(stack.network, dataset, stack.spec)[0]
    network = copy.deepcopy(stack.network).eval()
    logits = logits_of(network, dataset, dataset.test_images)
    for lane, metrics in enumerate(found):
        loss, error = metrics_of(logits, dataset.test_labels, lane)
        assert metrics == {"test_loss": pytest.approx(loss, rel=1e-9), "test_error": pytest.approx(error)}


@pytest.mark.parametrize("words", [[], ["norm.args.track=false"]], ids=["tracked", "untracked"])
def test_batch_statistics_are_those_of_whole_shuffled_batches(trained, words):
    stack, dataset = trained(*words)
    order = torch.randperm(44, generator=rng.generator(0, "test order"))[:32]  # two batches of 16
    network = copy.deepcopy(stack.network).train()
    parts = [logits_of(network, dataset, dataset.test_images[part]) for part in order.chunk(2)]
    [found] = evaluate(stack.network, dataset, stack.spec, under("running", "batch"))
    names = ("test_loss@batch", "test_error@batch") if not words else ("test_loss", "test_error")
    for lane, metrics in enumerate(found):
        wanted = metrics_of(torch.cat(parts), dataset.test_labels[order], lane)
        assert [metrics[name] for name in names] == pytest.approx(list(wanted), rel=1e-9)


@pytest.mark.parametrize("source", ["running", "batch", "precise", "adapt"])
def test_evaluation_leaves_the_network_as_it_was(trained, source):
    stack, dataset = trained()
    before = {name: t.clone() for name, t in stack.network.state_dict().items()}
    once = evaluate(stack.network, dataset, stack.spec, under("running", source))
    assert all(torch.equal(t, before[name]) for name, t in stack.network.state_dict().items())
    assert all(module.training for module in stack.network.modules())
    assert {layer.source for layer in running_norms(stack.network)} == {"running"}
    assert evaluate(stack.network, dataset, stack.spec, under("running", source)) == once


@pytest.mark.parametrize(("source", "split"), [("precise", "train"), ("adapt", "test")])
def test_statistics_taken_anew_are_those_of_their_own_split(trained, source, split):
    stack, dataset = trained()
    images = getattr(dataset, f"{split}_images")
    whole = len(images) // 16 * 16
    order = torch.randperm(len(images), generator=rng.generator(0, "test order"))[:whole]
    network = copy.deepcopy(stack.network).eval()
    norms, seen = running_norms(network), {}
    for layer in norms:  # the first norm's input does not depend on other norms
        layer.register_forward_pre_hook(lambda layer, inputs: seen.setdefault(layer, []).append(inputs[0]))
    for part in order.split(16):
        logits_of(network, dataset, images[part])
    batches = torch.stack(seen[norms[0]])  # (batches, 16, K·C)
    mean = batches.mean((0, 1))
    var = (batches.var(1, correction=0) + batches.mean(1).square()).mean(0) - mean.square()
    taken = {}

    def remember(layer, inputs, output):
        if not layer.training and layer is running_norms(stack.network)[0]:
            taken["mean"], taken["var"] = layer.running_mean.clone(), layer.running_var.clone()

    handle = running_norms(stack.network)[0].register_forward_hook(remember)
    evaluate(stack.network, dataset, stack.spec, under(source))
    handle.remove()
    torch.testing.assert_close(taken["mean"], mean, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(taken["var"], var, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("source", ["running", "batch", "precise", "adapt"])
def test_corrupted_images_are_tested_and_nothing_else_is_corrupted(trained, source):
    stack, dataset = trained()
    [condition] = under(source)
    corruption = Corruption("contrast", 5)
    [found] = evaluate(stack.network, dataset, stack.spec, [condition._replace(corruption=corruption)])
    [wanted] = evaluate(stack.network, corrupted(dataset, corruption), stack.spec, [condition])
    [plain] = evaluate(stack.network, dataset, stack.spec, [condition])
    for ours, theirs, clean in zip(found, wanted, plain, strict=True):
        assert list(ours.values()) == list(theirs.values()) != list(clean.values())
