"""Cross-iteration batch norm: windows of batches, moved to the present weights by Taylor's formula."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from normbench import models, norms, weight_norms
from normbench.data.shape import Shape
from normbench.models.layers import Conv2d, Linear
from oracles import cbn as oracle

INPUTS, CHANNELS = 3, 4


def same(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def noise(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class Fed(nn.Module):
    """A stacked layer and the cbn that it feeds, weights and inputs of every lane from its own seed."""

    def __init__(self, seeds=(0,), *, kind="conv", bias=False, weight_map="none", **args):
        super().__init__()
        self.seeds, self.kind = seeds, kind
        kernel = (3, 3) if kind == "conv" else ()
        weight = torch.stack([noise(CHANNELS, INPUTS, *kernel, seed=seed) for seed in seeds])
        weight = weight.flatten(0, 1) if kind == "conv" else weight
        mapped = weight_norms.build(weight_map, weight, len(seeds))
        if kind == "conv":
            self.layer = Conv2d(weight, bias, mapped, len(seeds), padding=1)
        else:
            self.layer = Linear(weight, bias, mapped)
        self.norm = norms.build("cbn", CHANNELS, len(seeds), burn_in=0.0, **args)
        self.norm.follow(self.layer)
        self.double()

    def input(self, step, images=4):
        shape = (images, INPUTS, 5, 4) if self.kind == "conv" else (images, INPUTS)
        return torch.cat([0.5 + noise(*shape, seed=100 * seed + step) for seed in self.seeds], 1)

    def forward(self, x):
        return self.norm(self.layer(x))

    def train_step(self, step, rate=0.05, images=4):
        y = self(self.input(step, images))
        g = torch.cat([noise(*y[:, :CHANNELS].shape, seed=7 + 100 * seed + step) for seed in self.seeds], 1)
        grads = torch.autograd.grad(y, list(self.parameters()), g)
        with torch.no_grad():
            for parameter, grad in zip(self.parameters(), grads, strict=True):
                parameter -= rate * grad
        return y.detach()


def patches(fed, x):
    """What the filters see: (values, fan_in)."""
    return x if fed.kind == "linear" else F.unfold(x, 3, padding=1).transpose(1, 2).flatten(0, 1)


@pytest.mark.parametrize("rate", [0.05, 3.0], ids=["small steps", "steps too large for a variance ≥ 0"])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("kind", ["conv", "linear"])
def test_statistics_of_past_batches_are_moved_as_in_the_paper(kind, bias, rate):
    fed, window = Fed(kind=kind, bias=bias, window=3, affine=False, eps=1e-3), 3
    seen, thetas, biases = [], [], []
    for step in range(6):
        x = fed.input(step)
        seen.append(patches(fed, x).numpy())
        thetas.append(fed.norm._weight().clone().numpy())
        biases.append(fed.layer.bias.detach().flatten().clone().numpy() if bias else [0.0] * CHANNELS)
        z = fed.layer(x).detach()
        y = fed.train_step(step, rate)
        for c in range(CHANNELS):
            span = window if step >= window - 1 else 1
            mean, var = oracle.moved(seen, [t[c] for t in thetas], [b[c] for b in biases], span)
            same(y[:, c], (z[:, c] - mean) / (var + 1e-3) ** 0.5, 1e-10)


def test_with_still_weights_it_is_batch_norm_of_the_last_batches_together():
    fed = Fed(window=3)
    for step in range(4):
        y = fed.train_step(step, rate=0.0)
    bn = norms.build("bn", CHANNELS).double()
    union = fed.layer(torch.cat([fed.input(step) for step in (1, 2, 3)]))
    same(y, bn(union)[-4:].detach())


def test_the_mean_is_moved_exactly_and_the_variance_to_first_order():
    errors = []
    for rate in (1e-2, 1e-3):
        fed = Fed(window=2, affine=False)
        fed.train_step(0, rate)
        truth, own = fed.layer(fed.input(0)).detach(), fed.layer(fed.input(1)).detach()
        mean, var, _ = fed.norm._over_window(
            own.mean((0, 2, 3))[None], own.var((0, 2, 3), correction=0)[None]
        )
        both = torch.cat([truth, own])
        same(mean[0], both.mean((0, 2, 3)))
        errors.append((var[0] - both.var((0, 2, 3), correction=0)).abs().max())
    assert errors[0] > 1e-6
    assert 80 < errors[0] / errors[1] < 120


def test_compensation_is_what_tells_it_from_the_naive_average():
    compensated, naive = Fed(window=2), Fed(window=2, compensate=False)
    for step in range(2):
        ys = [fed.train_step(step) for fed in (compensated, naive)]
        assert torch.equal(*ys) == (step == 0)


@pytest.mark.parametrize("args", [{"window": 1}, {"burn_in": 1.0}], ids=str)
def test_a_window_of_one_and_the_burn_in_are_batch_norm_bit_by_bit(make, draw, images, args):
    layer, bn = make("cbn", **{"compensate": True, **args}), make("bn")
    layer.begin_step(3, 10)
    bn.begin_step(3, 10)
    for seed in range(3):
        assert torch.equal(layer(draw(images, seed)), bn(draw(images, seed)))
    assert torch.equal(layer.running_var, bn.running_var)
    assert torch.equal(layer.eval()(draw(images, 9)), bn.eval()(draw(images, 9)))


def test_running_statistics_are_those_of_batch_norm_in_any_case(make, draw, images):
    for batch in (None, 2):
        layer, bn = make("cbn", batch=batch), make("bn", batch=batch)
        for seed in range(4):
            layer(draw(images, seed)), bn(draw(images, seed))
        same(layer.running_mean, bn.running_mean)
        same(layer.running_var, bn.running_var)
        assert layer.num_batches_tracked == bn.num_batches_tracked == 4


def test_the_window_begins_to_fill_after_the_burn_in(make, draw, images):
    layer, filled = make("cbn", burn_in=0.5, window=3), []
    for step in range(4):
        layer.begin_step(step, 4)
        layer(draw(images, step))
        filled.append(layer.num_past.item())
    assert filled == [0, 0, 1, 2]


@pytest.mark.parametrize("batch", [None, 2])
def test_the_gradient_with_a_full_window_is_exact(make, draw, batch):
    layer = make("cbn", channels=2, window=3, batch=batch, affine=False)
    for seed in range(3):
        layer(draw((4, 2, 2, 2), seed))
    x = draw((4, 2, 2, 2), 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: copy.deepcopy(layer)(x), x)


@pytest.mark.parametrize("kind", ["conv", "linear"])
@pytest.mark.parametrize("args", [{}, {"batch": 2}, {"weight_map": "ws"}, {"bias": True}], ids=str)
def test_lanes_with_their_layers_equal_lone_ones(kind, args):
    together = Fed((3, 1, 2), kind=kind, window=3, **args)
    alone = [Fed((seed,), kind=kind, window=3, **args) for seed in (3, 1, 2)]
    for step in range(5):
        y = together.train_step(step).unflatten(1, (3, -1))
        for lane, fed in enumerate(alone):
            same(y[:, lane], fed.train_step(step))
    state = together.state_dict()
    for lane, fed in enumerate(alone):
        for name, tensor in fed.state_dict().items():
            same(state[name].reshape(3, -1)[lane], tensor.flatten())


def test_a_nan_in_one_lane_leaves_the_others_bit_identical():
    clean, poisoned = Fed((0, 1, 2), window=2), Fed((0, 1, 2), window=2)
    with torch.no_grad():
        poisoned.layer.weight.unflatten(0, (3, -1))[1].fill_(torch.nan)
    for step in range(4):
        ys = [fed.train_step(step).unflatten(1, (3, -1)) for fed in (clean, poisoned)]
        assert ys[1][:, 1].isnan().all()
        assert torch.equal(ys[0][:, [0, 2]], ys[1][:, [0, 2]])
    for name, tensor in clean.state_dict().items():
        other = poisoned.state_dict()[name]
        assert torch.equal(tensor.reshape(3, -1)[[0, 2]], other.reshape(3, -1)[[0, 2]])


def test_a_saved_layer_continues_training_bit_by_bit():
    straight, first, resumed = (Fed(window=3) for _ in range(3))
    expected = [straight.train_step(step) for step in range(6)]
    for step in range(3):
        first.train_step(step)
    resumed.load_state_dict(copy.deepcopy(first.state_dict()))
    for step in range(3, 6):
        assert torch.equal(resumed.train_step(step), expected[step])


def test_the_window_of_several_workers_holds_all_their_images():
    fed = Fed(window=2, batch=2)
    z = fed.layer(fed.input(0)).detach()
    fed.train_step(0)
    same(fed.norm.past_mean[:, 0], z.mean((0, 2, 3)))
    same(fed.norm.past_var[:, 0], z.var((0, 2, 3), correction=0))


def test_the_followed_layer_is_no_part_of_the_norm_and_copies_follow_their_own():
    fed = Fed(window=2)
    assert {name for name, _ in fed.norm.named_parameters()} == {"weight", "bias"}
    modules = [name for name, _ in fed.named_modules()]
    assert modules == ["", "layer", "layer.weight_norm", "norm"]
    twin = copy.deepcopy(fed)
    for step in range(3):
        assert torch.equal(fed.train_step(step), twin.train_step(step))
    assert twin.norm._feeder[0] is twin.layer


@pytest.mark.parametrize("layer", [nn.Conv2d(INPUTS, CHANNELS, 3), nn.Linear(INPUTS, CHANNELS)], ids=str)
def test_torchs_own_layers_can_be_followed(layer):
    norm, shape = (
        norms.build("cbn", CHANNELS, window=2),
        (4, INPUTS, 5, 5) if layer.weight.dim() > 2 else (4, 3),
    )
    norm.follow(layer)
    for step in range(3):
        y = norm(layer(noise(*shape, seed=step).float()))
        assert y.isfinite().all()
    assert norm.mean_slope.abs().min() > 0


def test_a_frozen_layer_needs_no_compensation():
    fed, naive = Fed(window=2), Fed(window=2, compensate=False)
    fed.layer.weight.requires_grad_(False)
    for step in range(3):
        same(fed(fed.input(step)), naive(naive.input(step)))


def test_a_training_pass_without_autograd_is_batch_norm_and_leaves_the_window_alone():
    fed, bn = Fed(window=2), norms.build("bn", CHANNELS).double()
    for step in range(2):
        fed.train_step(step, rate=0.0)
    before = copy.deepcopy(fed.norm.state_dict())
    with torch.no_grad():
        assert torch.equal(fed(fed.input(5)), bn(fed.layer(fed.input(5))))
    after = fed.norm.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in ("past_mean", "past_weight", "num_past"))


def test_a_step_between_large_and_close_values_keeps_its_digits():
    """ν − μ² would be 0 or worse in fp32."""
    wide, narrow = (norms.build("cbn", 2, window=2, compensate=False) for _ in range(2))
    wide.double()
    for seed in range(3):
        x = noise(4, 2, 3, 3, seed=seed) + 10_000
        same(narrow(x.float()).double(), wide(x.float().double()), 2e-3)


NEEDS = "cbn: a convolution or linear layer with an output per channel must feed the layer directly; got "


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "none that could be used"),
        (nn.ReLU(), "ReLU()"),
        (nn.Conv2d(3, 5, 3), "Conv2d(3, 5"),
        (nn.ConvTranspose2d(4, 4, 3), "ConvTranspose2d(4, 4"),
    ],
    ids=str,
)
def test_what_cannot_be_followed_is_refused_with_a_remedy(given, said):
    with pytest.raises(norms.NormError) as error:
        norms.build("cbn", CHANNELS).follow(given)
    assert str(error.value).startswith(NEEDS + said)
    assert "layer.follow()" in str(error.value)
    norms.build("cbn", CHANNELS, compensate=False).follow(given)


def test_a_layer_that_follows_none_refuses_to_train_but_evaluates(make, draw, images):
    layer = norms.build("cbn", 6).double()
    with pytest.raises(norms.NormError, match="got none"):
        layer.check(images)
    with pytest.raises(norms.NormError, match=r"layer\.follow\(\)"):
        layer(draw(images))
    assert layer.eval()(draw(images)).shape == images


def test_an_input_of_another_origin_is_refused():
    fed = Fed(window=2)
    for x in (noise(4, CHANNELS, 3, 3), noise(4, CHANNELS, 3, 3).requires_grad_()):
        with pytest.raises(norms.NormError, match="got an input that does not come from Conv2d"):
            fed.norm(x)


def test_a_network_shows_every_norm_the_layer_before_it_and_names_the_site_where_there_is_none(make_spec):
    image = Shape(1, 32, 10, 1, 1)
    network = models.build([make_spec("model=lenet5", "norm=cbn")], image)
    assert [len(norm._feeder) for norm in network.norms().values()] == [1, 1, 1, 1]
    with pytest.raises(norms.NormError, match=r"site conv1: cbn: .*placement=conv_norm_act"):
        models.check(make_spec("model=lenet5", "norm=cbn", "placement=conv_act_norm"), image)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"window": 0}, "cbn: window must be a whole number ≥ 1; got 0"),
        ({"burn_in": 8}, "cbn: burn_in must be a number in [0, 1]; got 8"),
        ({"compensate": 1}, "cbn: compensate must be true or false; got 1"),
    ],
)
def test_what_cannot_be_is_refused(args, message):
    with pytest.raises(norms.NormError) as error:
        norms.build("cbn", 6, **args)
    assert message in str(error.value)
