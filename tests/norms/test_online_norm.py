"""Online normalization: one image after the other, forward and back."""

from __future__ import annotations

import pytest
import torch

from normbench import norms
from normbench.norms.methods.online import CLAMP


def same(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def step(layer, x, g):
    """Output and input gradient of one training pass."""
    x = x.clone().requires_grad_()
    y = layer(x)
    return y.detach(), torch.autograd.grad(y, x, g)[0]


@pytest.mark.parametrize("guard", ["scaling", "clamp", "none"])
@pytest.mark.parametrize("momentum", [0.1, "cumulative", "debiased:0.1"])
def test_a_batch_is_its_images_one_after_the_other(make, draw, images, guard, momentum):
    together, alone = (make("online", guard=guard, momentum=momentum) for _ in range(2))
    for seed in range(3):
        x, g = draw(images, seed), draw(images, 10 + seed)
        each = [step(alone, *image) for image in zip(x.split(1), g.split(1), strict=True)]
        y, grad = step(together, x, g)
        same(y, torch.cat([y for y, _ in each]))
        same(grad, torch.cat([grad for _, grad in each]))
    for name, tensor in together.state_dict().items():
        same(tensor, alone.state_dict()[name])
    assert together.num_batches_tracked == 12


def test_an_image_is_normalized_by_those_before_it_alone(make, draw, images):
    layer, other = make("online"), make("online")
    x = draw(images)
    later = torch.cat([x[:2], draw(images, 1)[2:]])
    assert torch.equal(layer(x)[:2], other(later)[:2])
    first = make("online", guard="none", affine=False, eps=1e-15)
    same(first(x)[0], x[0])  # by mean 0 and variance 1


def test_cumulative_statistics_are_those_of_all_values_and_of_the_initial_image(make, draw, images):
    """Mean 0 and variance 1 count as an image: the variance between images is in."""
    layer, x = make("online", momentum="cumulative"), draw(images)
    layer(x)
    means = torch.cat([x.new_zeros(1, 6), x.mean((2, 3))])
    variances = torch.cat([x.new_ones(1, 6), x.var((2, 3), correction=0)])
    same(layer.running_mean, means.mean(0))
    same(layer.running_var, variances.mean(0) + means.var(0, correction=0))


def test_fully_connected_layers_have_a_variance_between_images_alone(make, draw):
    layer = make("online", momentum=0.5)
    layer(draw((1, 6)))
    same(layer.running_var, 0.5 + 0.25 * draw((1, 6))[0].square())


def test_the_controller_adds_up_what_it_let_through(make, draw, images):
    layer, sent = make("online", guard="none"), 0
    for seed in range(5):
        _, grad = step(layer, draw(images, seed), draw(images, 10 + seed))
        sent = sent + grad.mean((2, 3)).sum(0)
    same(layer.control[:, 1], sent)


def test_on_a_stationary_stream_gradients_become_orthogonal_to_one_and_to_the_output(make, draw, images):
    """What batch norm enforces within a batch holds over time."""
    layer = make("online", guard="none", affine=False, momentum=0.01, gradient_momentum=0.1)
    x, g = draw(images) + 3, draw(images, 1) + 2
    for _ in range(600):
        y, grad = step(layer, x, g)
    assert grad.mean((0, 2, 3)).abs().max() < 1e-9 < g.mean((0, 2, 3)).abs().min()
    assert (grad * y).mean((0, 2, 3)).abs().max() < 0.02 < (g * y).mean((0, 2, 3)).abs().max()


def test_scaling_gives_every_image_the_same_energy(make, draw, images):
    y = make("online", eps=1e-12)(100 * draw(images))
    same(y.square().mean((1, 2, 3)), torch.ones(4, dtype=torch.float64), 1e-9)


def test_the_clamp_bounds_every_value(make, draw, images):
    y = make("online", guard="clamp")(100 * draw(images))
    assert y.abs().max() == CLAMP


def test_all_workers_are_one_stream():
    assert "batch" not in norms.entry("online").arguments


def test_evaluation_with_batch_statistics_is_batch_norms(make, draw, images):
    layer, bn = make("online", guard="none").eval(), make("bn")
    layer.source = "batch"
    same(layer(draw(images)), bn(draw(images)))


def test_any_shape_can_be_trained_on():
    norms.build("online", 1).check((1, 1))
    norms.build("online", 6).check((1, 6, 1, 1))


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"guard": "ls"}, "online: guard must be scaling, clamp or none; got 'ls'"),
        ({"gradient_momentum": 99}, "online: gradient_momentum must be a number in [0, 1]; got 99"),
    ],
)
def test_what_cannot_be_is_refused(args, message):
    with pytest.raises(norms.NormError) as error:
        norms.build("online", 6, **args)
    assert message in str(error.value)
