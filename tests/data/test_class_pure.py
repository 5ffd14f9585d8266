"""`data.sampling=class_pure`: groups of one class, in an order per lane, over as many images as possible."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from normbench import data, rng
from normbench.data.batches import Batches
from normbench.data.class_pure import class_pure_order


def epoch(batches, number):
    """Image numbers of an epoch, (steps · N, K)."""
    seen = []
    for step in range(number * batches.steps_per_epoch, (number + 1) * batches.steps_per_epoch):
        batches.seek(step)
        seen.append(batches._order[batches._places].clone())
    return torch.cat(seen)


@pytest.mark.parametrize(("batch", "workers"), [(4, 16), (1, 8), (32, 1), (7, 3), (128, 2)])
def test_every_group_of_a_step_is_of_one_class(data_spec, batch, workers):
    dataset = data.load(data_spec("digits"))
    batches = Batches(dataset, (0, 1), batch * workers, class_pure=batch)
    assert batches.steps_per_epoch == 1297 // (batch * workers)
    for step in range(2 * batches.steps_per_epoch):
        _, y = batches.at(step)
        groups = y.view(workers, batch, 2)
        assert (groups == groups[:, :1]).all()


@pytest.mark.parametrize("batch", [1, 2, 4, 16, 50])
def test_an_epoch_repeats_an_image_only_to_complete_a_group(data_spec, batch):
    """Counted independently: full groups first; what is lacking comes from classes with images left over."""
    dataset = data.load(data_spec("digits"))
    of_class = np.bincount(dataset.train_labels)
    groups = 1297 // batch
    whole = (of_class // batch).sum()
    left = sorted((of_class % batch)[of_class % batch > 0], reverse=True)[: max(0, groups - whole)]
    distinct = min(groups, whole) * batch + sum(left)
    batches = Batches(dataset, [5], batch, class_pure=batch)
    for number in range(3):
        order = epoch(batches, number)[:, 0].numpy()
        times = np.bincount(order, minlength=1297)
        assert len(order) == groups * batch
        assert (times > 0).sum() == distinct
        assert times.max() <= 2


def test_a_class_with_fewer_images_than_a_group_repeats_them():
    labels = torch.tensor([0] * 9 + [1] * 2)
    order = class_pure_order(labels, 5, 2, rng.generator(0, "x"))
    groups = labels[order].view(2, 5)
    assert (groups == groups[:, :1]).all()
    small = class_pure_order(torch.tensor([0, 1, 0, 1]), 3, 1, rng.generator(0, "x"))
    assert len(small) == 3
    assert len(set(torch.tensor([0, 1, 0, 1])[small].tolist())) == 1


def test_every_image_appears_after_some_epochs(data_spec):
    dataset = data.load(data_spec("digits"))
    batches = Batches(dataset, [0], 64, class_pure=32)
    seen = torch.cat([epoch(batches, number)[:, 0] for number in range(12)])
    assert len(seen.unique()) == 1297


def test_a_lane_sees_in_a_stack_what_it_sees_alone_and_lanes_differ(tiny):
    dataset = tiny(count=90)
    knobs = {"class_pure": 4, "crop": 2, "flip": True}
    stack = Batches(dataset, (3, 1, 4), 12, **knobs)
    for k, seed in enumerate((3, 1, 4)):
        alone = Batches(dataset, [seed], 12, **knobs)
        for step in (0, 8, 15):
            (x, y), (x1, y1) = stack.at(step), alone.at(step)
            assert torch.equal(x.unflatten(1, (3, -1))[:, k], x1)
            assert torch.equal(y[:, k], y1[:, 0])
    orders = epoch(stack, 0)
    assert not torch.equal(orders[:, 0], orders[:, 1])
    assert not torch.equal(orders, epoch(stack, 1))


def test_the_order_of_classes_is_random(tiny):
    """Groups of one class do not follow each other more often than chance lets them."""
    dataset = replace(tiny(count=2000), train_labels=torch.arange(2000) % 10)
    y = dataset.train_labels[epoch(Batches(dataset, [0], 2, class_pure=2), 0)[:, 0]].view(-1, 2)[:, 0]
    same = (y[1:] == y[:-1]).float().mean()
    assert abs(same - 0.1) < 4 * (0.1 * 0.9 / 999) ** 0.5


def test_without_the_knob_the_order_is_that_of_before(tiny):
    dataset = tiny(count=40)
    order = epoch(Batches(dataset, [9], 8), 2)[:, 0]
    assert torch.equal(order, torch.randperm(40, generator=rng.generator(9, "order/2")))
