"""Ghost batch norm: batch norm of every ghost, one update of the running statistics."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from normbench import norms
from normbench.norms.methods import bn as batch


@pytest.mark.parametrize("gathers", [False, True], ids=["a call per ghost", "one call for all"])
@pytest.mark.parametrize("lanes", [1, 2])
def test_ghosts_equal_a_loop_of_batch_norm(make, draw, shapes, monkeypatch, gathers, lanes):
    monkeypatch.setattr(batch, "pays_to_gather", lambda x, chunks: gathers)
    layer = make("ghost", lanes, ghost_size=2)
    for shape in shapes(layer):
        x = draw(shape, lanes=lanes)
        parts = [
            F.batch_norm(part, None, None, layer.weight, layer.bias, training=True) for part in x.split(2)
        ]
        torch.testing.assert_close(layer(x), torch.cat(parts), rtol=0, atol=1e-13)


def test_both_ways_of_computing_agree_where_lanes_differ(make, draw, images, monkeypatch):
    results = []
    for gathers in (False, True):
        monkeypatch.setattr(batch, "pays_to_gather", lambda x, chunks, choice=gathers: choice)
        layer = make("ghost", 3, ghost_size=2, eps=[1e-5, 0.1, 1.0], momentum=[0.1, "cumulative", 0.5])
        x = draw(images, lanes=3).requires_grad_()
        y = layer(x)
        grads = torch.autograd.grad((y * y.detach().sin()).sum(), [x, *layer.parameters()])
        results.append((y, *grads, layer.running_mean, layer.running_var))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_many_small_ghosts_are_gathered_and_large_ones_are_not():
    x = torch.empty(128, 100)
    assert batch.pays_to_gather(x, 64)
    assert not batch.pays_to_gather(x, 2)
    assert not batch.pays_to_gather(torch.empty(128, 96, 28, 28), 64)
    assert batch.pays_to_gather(torch.empty(128, 96, 28, 28, device="meta"), 64)


def test_running_statistics_take_one_step_towards_the_mean_over_ghosts(make, draw, images):
    layer = make("ghost", ghost_size=2, momentum=0.25)
    x = draw(images)
    layer(x)
    ghosts = x.view(2, 2, *images[1:]).transpose(1, 2).flatten(2)  # (S, C, values)
    torch.testing.assert_close(layer.running_mean, 0.25 * ghosts.mean(2).mean(0))
    torch.testing.assert_close(layer.running_var, 0.75 + 0.25 * ghosts.var(2).mean(0))
    assert layer.num_batches_tracked == 1


def test_the_variance_between_ghosts_is_no_part_of_the_running_variance(make):
    layer = make("ghost", ghost_size=2, momentum=1.0)
    within = torch.tensor([-1.0, 1.0, 99.0, 101.0], dtype=torch.float64)
    layer(within.view(4, 1).expand(4, 6).contiguous())
    torch.testing.assert_close(layer.running_var, torch.full((6,), 2.0, dtype=torch.float64))


def test_no_ghost_holds_images_of_two_workers():
    assert norms.build("ghost", 6, ghost_size=4, batch=8).ghost_size == 4
    with pytest.raises(norms.NormError, match="ghost_size must divide batch; got ghost_size=4 and batch=6"):
        norms.build("ghost", 6, ghost_size=4, batch=6)


def test_a_batch_that_is_set_later_is_checked_with_the_shape():
    layer = norms.build("ghost", 6, ghost_size=4)
    layer.batch = 8
    layer.check((16, 6, 2, 2))
    layer.batch = 6
    with pytest.raises(norms.NormError, match="ghost_size must divide batch"):
        layer.check((12, 6, 2, 2))


def test_evaluation_with_batch_statistics_keeps_the_ghosts(make, draw, images):
    layer = make("ghost", ghost_size=2, batch=4)
    wanted = layer(draw(images))
    layer.eval().source = "batch"
    assert torch.equal(layer(draw(images)), wanted)


def test_images_that_fill_no_ghost_are_refused_in_training_and_welcome_in_evaluation(make, draw):
    layer = make("ghost", ghost_size=4)
    with pytest.raises(norms.NormError, match="multiple of 4 images"):
        layer(draw((6, 6, 2, 2)))
    assert layer.eval()(draw((6, 6, 2, 2))).isfinite().all()
