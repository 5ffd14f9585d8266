"""Streaming normalization: the content of each stream, its updates and its readers."""

from __future__ import annotations

import pytest
import torch

from normbench import norms

PLAIN = {"alpha1": 0.0, "beta1": 0.0, "beta2": 0.0}


def same(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def step(layer, x, g):
    """Output and input gradient of one training pass."""
    x = x.clone().requires_grad_()
    y = layer(x)
    return y.detach(), torch.autograd.grad(y, x, g)[0]


def deviation(x, eps=1e-5):
    return (x.var((0, 2, 3), correction=0) + eps).sqrt()


def test_without_shares_of_the_past_it_is_batch_norm(make, draw, images):
    """norms of other layers know this as α = (0, 1), β = (0, 0, 1)."""
    for batch in (None, 2):
        layer, bn = make("streaming", batch=batch, **PLAIN), make("bn", batch=batch)
        for seed in range(3):
            x, g = draw(images, seed), draw(images, 10 + seed)
            for got, wanted in zip(step(layer, x, g), step(bn, x, g), strict=True):
                same(got, wanted)


def test_with_shares_of_the_past_only_the_first_step_is_batch_norms(make, draw, images):
    layer, bn = make("streaming"), make("bn")
    for seed in range(2):
        x, g = draw(images, seed), draw(images, 10 + seed)
        for got, wanted in zip(step(layer, x, g), step(bn, x, g), strict=True):
            assert torch.allclose(got, wanted, rtol=0, atol=1e-12) == (seed == 0)


@pytest.mark.parametrize("momentum", [0.3, "debiased:0.3", "cumulative"])
def test_the_first_weight_update_makes_the_short_statistic_the_long_one(make, draw, images, momentum):
    layer, x = make("streaming", momentum=momentum), draw(images)
    layer(x)
    same(layer.long_statistic, torch.stack([x.mean((0, 2, 3)), deviation(x)], 1))


def test_a_constant_stream_is_approached_geometrically(make, draw, images):
    layer, first, then = make("streaming"), draw(images), draw(images, 1) * 3
    step(layer, first, first)
    start = layer.long_statistic.clone()
    goal = torch.stack([then.mean((0, 2, 3)), deviation(then)], 1)
    for passes in range(1, 6):
        step(layer, then, first)
        same(layer.long_statistic - goal, 0.7**passes * (start - goal))


def test_micro_batches_of_one_weight_update_average_exactly(make, draw, images):
    layer = make("streaming", forwards_per_step=3, alpha1=0.0)
    means = []
    for seed in range(6):
        x = draw(images, seed)
        y, _ = step(layer, x, x)
        means = [*means, x.mean((0, 2, 3))][-(seed % 3 + 1) :]
        same(layer.short_statistic[:, 0], sum(means) / len(means))
        shift = y.mean((0, 2, 3)) - layer.bias
        assert (shift.abs().max() < 1e-12) == (len(means) == 1)  # only the first is centred by its own mean
    updates = [sum(draw(images, 3 * u + i).mean((0, 2, 3)) for i in range(3)) / 3 for u in range(2)]
    same(layer.long_statistic[:, 0], 0.7 * updates[0] + 0.3 * updates[1])


def test_gradients_of_micro_batches_average_exactly(make, draw, images):
    """What a step sends back is linear in ĝ, and ĝ of the second pass is the mean over both."""
    args = {"forwards_per_step": 2, "alpha1": 0.0, "beta1": 0.0}
    x, g = draw(images), draw(images, 1)
    repeated = make("streaming", **args, beta2=1.0)
    step(repeated, x, g)
    one, other = (step(make("streaming", **PLAIN), x, upstream)[1] for upstream in (g, -3 * g))
    direct = x.new_ones(1) * g * repeated.weight.view(-1, 1, 1).detach() / deviation(x).view(-1, 1, 1)
    through = (one - direct, other + 3 * direct)
    same(step(repeated, x, -3 * g)[1], -3 * direct + (through[0] + through[1]) / 2)


def test_evaluation_reads_the_long_statistic_alone(make, draw, images):
    layer = make("streaming", affine=False)
    for seed in range(3):
        layer(draw(images, seed))
    mean, dev = layer.long_statistic.unbind(1)
    x = draw(images, 9)
    expected = (x - mean.view(-1, 1, 1)) / dev.view(-1, 1, 1)
    layer.short_statistic.fill_(torch.nan)
    same(layer.eval()(x), expected)


def test_the_l1_deviation_is_the_mean_distance_from_the_mean(make, draw, images):
    layer, x = make("streaming", p=1, affine=False), draw(images)
    off = x - x.mean((0, 2, 3), keepdim=True)
    same(layer(x), off / (off.abs().mean((0, 2, 3), keepdim=True) + 1e-5))


@pytest.mark.parametrize("p", [1, 2])
def test_without_shares_of_the_past_the_backward_pass_is_the_gradient(make, draw, p):
    layer = make("streaming", p=p, channels=2, **PLAIN)
    assert torch.autograd.gradcheck(layer, draw((3, 2, 2, 2)).requires_grad_())


def test_workers_share_the_mean_of_their_statistics(make, draw, images):
    layer, x = make("streaming", batch=2), draw(images)
    layer(x)
    same(layer.long_statistic[:, 1], (deviation(x[:2]) + deviation(x[2:])) / 2)


def test_a_layer_saved_between_micro_batches_goes_on_bit_by_bit(make, draw, images):
    straight, first, resumed = (make("streaming", forwards_per_step=2) for _ in range(3))
    x = [draw(images, seed) for seed in range(5)]
    expected = [step(straight, batch, x[0]) for batch in x]
    for batch in x[:3]:
        step(first, batch, x[0])
    resumed.load_state_dict(first.state_dict())
    for batch, wanted in zip(x[3:], expected[3:], strict=True):
        for got, want in zip(step(resumed, batch, x[0]), wanted, strict=True):
            assert torch.equal(got, want)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"alpha1": 1.5}, "streaming: alpha1 must be a number in [0, 1]; got 1.5"),
        ({"beta2": -0.1}, "streaming: beta2 must be a number in [0, 1]; got -0.1"),
        ({"beta1": True}, "streaming: beta1 must be a number in [0, 1]; got True"),
        ({"beta1": 0.7}, "streaming: beta1 + beta2 must be ≤ 1, the rest is β₃; got 0.7 + 0.5. Lower one"),
        ({"p": 3}, "streaming: p must be 1 or 2; got 3"),
        ({"forwards_per_step": 0}, "streaming: forwards_per_step must be a whole number ≥ 1; got 0"),
    ],
)
def test_what_cannot_be_is_refused(args, message):
    with pytest.raises(norms.NormError) as error:
        norms.build("streaming", 6, **args)
    assert message in str(error.value)


def test_a_single_value_per_statistic_is_refused():
    with pytest.raises(norms.NormError, match="1 image per statistic on a map of 1 position"):
        norms.build("streaming", 6, batch=1).check((8, 6))
