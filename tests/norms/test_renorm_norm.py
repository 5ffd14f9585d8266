"""Batch renormalization: batch norm at one end, averages over earlier batches at the other."""

from __future__ import annotations

import copy

import pytest
import torch

from normbench import norms
from normbench.errors import InputError

PLAIN = {"r_max": 1.0, "d_max": 0.0}
FREE = {"r_max": 1e30, "d_max": 1e30}
#: The paper's steps are shares of so many.
PAPERS_STEPS = 200_000


def close(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def step(layer, x, g):
    """Output and gradients of one training step."""
    x = x.clone().requires_grad_()
    y = layer(x)
    return y, torch.autograd.grad(y, [x, *layer.parameters()], g)


@pytest.mark.parametrize(
    "args", [{}, {"batch": 2}, {"affine": "weight"}, {"affine": "bias"}, {"affine": False}]
)
@pytest.mark.parametrize("lanes", [1, 3])
def test_without_room_for_correction_it_is_batch_norm(make, draw, shapes, args, lanes):
    same = {"momentum": 0.2, "eps": [1e-5, 1e-3, 0.1][:lanes], **args}
    for shape in shapes(make("brn")):
        brn, bn = make("brn", lanes, **PLAIN, **same), make("bn", lanes, **same)
        for seed in range(3):
            x, g = draw(shape, seed, lanes=lanes), draw(shape, 9 + seed, lanes=lanes)
            (y, grads), (wanted, others) = step(brn, x, g), step(bn, x, g)
            close(y, wanted)
            for a, b in zip(grads, others, strict=True):
                close(a, b)
        for name, buffer in bn.state_dict().items():
            close(brn.state_dict()[name], buffer)
        x = draw(shape, 5, lanes=lanes)
        close(brn.eval()(x), bn.eval()(x))


@pytest.mark.parametrize("args", [{}, {"batch": 2}])
def test_unclipped_it_normalizes_by_the_averages_of_earlier_batches(make, draw, shapes, args):
    for shape in shapes(make("brn")):
        layer = make("brn", affine=False, renorm_momentum=0.3, **FREE, **args)
        for seed in range(4):
            mean, std = layer.renorm_mean.clone(), layer.renorm_std.clone()
            x = draw(shape, seed)
            along = (1, -1, *[1] * (x.dim() - 2))
            close(layer(x), (x - mean.view(along)) / std.view(along))


def test_unclipped_the_output_ignores_batch_mates_and_the_gradient_does_not(make, draw, images):
    layer = make("brn", **FREE)
    for seed in range(3):
        layer(draw(images, seed))
    x = draw(images, 4).requires_grad_()
    other = torch.cat([draw(images, 5)[:3], x[3:].detach()]).requires_grad_()
    after = copy.deepcopy(layer)
    y, z = layer(x)[3], after(other)[3]
    close(y, z)
    grads = [torch.autograd.grad(out.square().sum(), leaf)[0] for out, leaf in ((y, x), (z, other))]
    assert (grads[0][3] - grads[1][3]).abs().max() > 1e-3
    assert grads[0][0].abs().max() > 1e-3


@pytest.mark.parametrize("limits", [{}, {"r_max": 1.1, "d_max": 0.2}, FREE])
def test_the_backward_pass_is_the_gradient_with_r_and_d_held_constant(make, draw, images, limits):
    layer = make("brn", renorm_momentum=0.3, **limits)
    layer(draw(images))
    x, g = draw(images, 1).requires_grad_(), draw(images, 2)
    mean, std = x.mean((0, 2, 3)), (x.var((0, 2, 3), correction=0) + layer.eps).sqrt()
    r = (std / layer.renorm_std).clamp(1 / layer.r_max, layer.r_max).detach()
    d = ((mean - layer.renorm_mean) / layer.renorm_std).clamp(-layer.d_max, layer.d_max).detach()

    def along(v):
        return v.view(1, -1, 1, 1)

    wanted = along(layer.weight) * ((x - along(mean)) / along(std) * along(r) + along(d)) + along(layer.bias)
    expected = torch.autograd.grad(wanted, [x, *layer.parameters()], g)
    y, grads = step(layer, x.detach(), g)
    close(y, wanted)
    for a, b in zip(grads, expected, strict=True):
        close(a, b, 1e-11)


def test_limits_at_the_papers_steps():
    layer = norms.build("brn", 6)
    assert (layer.r_limit, layer.d_limit) == (3.0, 5.0)
    limits = {0: (1, 0), 5_000: (1, 0), 15_000: (1 + 2 * 10 / 35, 2.5), 22_500: (2, 5 * 17.5 / 20),
              25_000: (1 + 2 * 20 / 35, 5), 40_000: (3, 5), 199_999: (3, 5)}  # fmt: skip
    for at, (r, d) in limits.items():
        layer.begin_step(at, PAPERS_STEPS)
        assert layer.r_limit.item() == pytest.approx(r, rel=1e-12)
        assert layer.d_limit.item() == pytest.approx(d, rel=1e-12)


def test_limits_bound_what_training_does(make, draw, images):
    """With σ_B = σ r and μ_B − μ far off, the output's deviation and mean are r and d."""
    layer = make("brn", affine=False, eps=1e-12)
    for at, r, d in ((0, 1.0, 0.0), (22_500, 2.0, 4.375), (50_000, 3.0, 5.0)):
        layer.begin_step(at, PAPERS_STEPS)
        layer.renorm_std.fill_(1e-3)
        layer.renorm_mean.fill_(100.0)
        y = layer(draw(images))
        close(y.std((0, 2, 3), correction=0), torch.full((6,), r, dtype=torch.float64), 1e-9)
        close(y.mean((0, 2, 3)), torch.full((6,), -d, dtype=torch.float64), 1e-9)
        layer.renorm_std.fill_(1e3)
        close(
            layer(draw(images)).std((0, 2, 3), correction=0),
            torch.full((6,), 1 / r, dtype=torch.float64),
            1e-9,
        )


@pytest.mark.parametrize(
    "args", [{"start": 0.5, "r_end": 0.5, "d_end": 0.5}, {"start": 0, "r_end": 0, "d_end": 0}]
)
def test_a_ramp_of_no_length_is_a_jump(args):
    layer = norms.build("brn", 6, **args)
    for at in range(10):
        layer.begin_step(at, 10)
        assert layer.r_limit.item() == (3.0 if at / 10 >= args["start"] else 1.0)


def test_the_correction_uses_the_averages_before_the_batch_moves_them(make, draw, images):
    layer = make("brn", affine=False, renorm_momentum=1.0, **FREE)
    layer(draw(images))
    before = layer.renorm_mean.clone()
    y = layer(draw(images, 1))
    assert y.mean().abs() > 1e-3  # by its own mean it would be centred
    assert not torch.equal(layer.renorm_mean, before)
    x = draw(images, 1)
    close(layer.renorm_mean, x.mean((0, 2, 3)))
    close(layer.renorm_std, (x.var((0, 2, 3), correction=0) + layer.eps).sqrt())


def test_workers_share_the_averages_and_move_them_by_their_mean(make, draw, images):
    layer = make("brn", batch=2, renorm_momentum=1.0, eps=1e-3)
    x = draw(images)
    layer(x)
    parts = x.view(2, 2, *images[1:]).transpose(1, 2).flatten(2)  # (S, C, values)
    close(layer.renorm_mean, parts.mean(2).mean(0))
    close(layer.renorm_std, (parts.var(2, correction=0) + 1e-3).sqrt().mean(0))
    assert layer.num_batches_tracked == 1


def test_a_dead_channels_deviation_is_raised_to_the_root_of_eps(make, draw, images):
    layer = make("brn", affine=False, eps=0.25, **FREE)
    layer.renorm_std.zero_()
    close(layer(draw(images)), draw(images) / 0.5)


def test_both_ways_of_chunking_agree(make, draw, images, monkeypatch):
    results = []
    for gathers in (False, True):
        monkeypatch.setattr(norms.methods.bn, "pays_to_gather", lambda x, chunks, choice=gathers: choice)
        layer = make("brn", 3, batch=2, eps=[1e-5, 0.1, 1.0], momentum=[0.1, "cumulative", 0.5])
        layer(draw(images, 3, lanes=3))
        y, grads = step(layer, draw(images, lanes=3), draw(images, 1, lanes=3))
        results.append((y, *grads, *layer.buffers()))
    for a, b in zip(*results, strict=True):
        close(a, b)


def test_renorm_momentum_may_differ_by_lane(make, draw, images):
    layer = make("brn", 2, renorm_momentum=[1.0, 0.0])
    layer(draw(images, lanes=2))
    one, other = layer.renorm_mean.chunk(2)
    assert one.abs().min() > 0
    assert not other.any()


def test_evaluation_with_batch_statistics_is_the_training_output_and_changes_no_state(make, draw, images):
    layer = make("brn")
    layer(draw(images))
    again = copy.deepcopy(layer).eval()
    again.source = "batch"
    before = copy.deepcopy(again.state_dict())
    assert torch.equal(again(draw(images, 1)), layer(draw(images, 1)))
    assert all(torch.equal(tensor, before[name]) for name, tensor in again.state_dict().items())


def test_the_state_of_batch_norm_gives_it_averages_to_start_from(make, draw, images):
    bn = make("bn", eps=1e-3)
    for seed in range(50):
        bn(draw(images, seed))
    layer = make("brn", **FREE)
    layer.load_state_dict(bn.state_dict())
    close(layer.renorm_mean, bn.running_mean)
    close(layer.renorm_std, (bn.running_var + 1e-3).sqrt())
    close(layer(draw(images, 60)), bn.eval()(draw(images, 60)))
    saved = make("brn")
    saved.load_state_dict(layer.state_dict())
    assert torch.equal(saved.renorm_mean, layer.renorm_mean)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"r_max": 0.5}, "brn: r_max must be a finite number ≥ 1; got 0.5"),
        ({"r_max": float("inf")}, "brn: r_max must be a finite number ≥ 1; got inf"),
        ({"d_max": -1}, "brn: d_max must be a finite number ≥ 0; got -1"),
        ({"d_max": "wide"}, "brn: d_max must be a finite number ≥ 0; got 'wide'"),
        ({"start": 0.3}, "0 ≤ start ≤ r_end ≤ 1; got start=0.3, r_end=0.2"),
        ({"start": -0.1}, "brn: start must be a number in [0, 1]; got -0.1"),
        ({"d_end": 1.5}, "brn: d_end must be a number in [0, 1]; got 1.5"),
        ({"start": None}, "brn: start must be a number in [0, 1]; got None"),
        ({"renorm_momentum": 2}, "must lie in [0, 1]"),
        ({"renorm_momentum": [0.1, 0.2, 0.3]}, "renorm_momentum must be one value or one per lane; got 3"),
    ],
)
def test_an_argument_out_of_range_is_named(args, message):
    with pytest.raises(InputError) as error:
        norms.build("brn", 6, 2, **args)
    assert message in str(error.value)
