"""Filter response norm: its special cases, its threshold, its learned ε, and timm's layer."""

from __future__ import annotations

import pytest
import torch

from normbench import norms


def same(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def test_maps_of_zero_mean_come_out_as_from_instance_norm(make, draw, images):
    x = draw(images)
    x = x - x.mean((2, 3), keepdim=True)
    same(make("frn", activated=False, learn_eps=False, eps=1e-5)(x), make("in")(x))


def test_the_threshold_at_zero_is_a_relu_and_has_its_gradient(make, draw, images):
    owner, plain = make("frn"), make("frn", activated=False)
    torch.nn.init.zeros_(owner.tau)
    torch.nn.init.zeros_(owner.bias), torch.nn.init.zeros_(plain.bias)
    x = draw(images)
    x[0] = 0.0  # y is 0 there, on the threshold
    x.requires_grad_()
    y, wanted = owner(x), torch.relu(plain(x))
    same(y, wanted)
    weights = draw(images, 1)
    for got, want in zip(
        torch.autograd.grad((y * weights).sum(), [x, owner.weight, owner.bias]),
        torch.autograd.grad((wanted * weights).sum(), [x, plain.weight, plain.bias]),
        strict=True,
    ):
        same(got, want)


def test_a_threshold_below_everything_is_none(make, draw, images):
    owner = make("frn")
    torch.nn.init.constant_(owner.tau, -100.0)
    same(owner(draw(images)), make("frn", activated=False)(draw(images)))


def test_nothing_comes_out_below_the_threshold_and_what_is_there_moves_it(make, draw, images):
    layer = make("frn")
    y = layer(draw(images))
    floor = layer.tau.view(-1, 1, 1)
    assert (y >= floor - 1e-12).all()
    (grad,) = torch.autograd.grad(y.sum(), layer.tau)
    same(grad, (y <= floor + 1e-12).sum((0, 2, 3)).double())


@pytest.mark.parametrize(("shift", "invariant"), [(0.0, True), (3.0, False)])
def test_it_is_blind_to_the_scale_of_a_map_and_not_to_its_mean(make, draw, images, shift, invariant):
    layer = make("frn", eps=1e-12, activated=False)
    x = draw(images)
    close = torch.allclose(layer(3 * x + shift), layer(x), rtol=0, atol=1e-9)
    assert close == invariant


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1, 1)])
@pytest.mark.parametrize("learn_eps", ["auto", True])
def test_on_one_position_the_learned_eps_makes_it_a_soft_sign(make, draw, shape, learn_eps):
    layer = make("frn", activated=False, learn_eps=learn_eps, affine=False)
    x = draw(shape)
    same(layer(x), x / (x.square() + 1e-6 + layer.eps_learned).sqrt())
    with torch.no_grad():
        layer.eps_learned.neg_()
    same(layer(x), x / (x.square() + 1e-6 - layer.eps_learned).sqrt())


@pytest.mark.parametrize(("learn_eps", "shape", "counts"), [
    ("auto", (4, 6, 1, 1), True), ("auto", (4, 6), True), ("auto", (4, 6, 1, 2), False),
    (True, (4, 6, 1, 2), True),
])  # fmt: skip
def test_auto_learns_eps_on_maps_of_one_position_alone(make, draw, learn_eps, shape, counts):
    layer = make("frn", activated=False, learn_eps=learn_eps)
    (grad,) = torch.autograd.grad(layer(draw(shape)).sum(), layer.eps_learned)
    assert (grad != 0).item() == counts


def test_without_learned_eps_maps_of_one_position_are_refused():
    layer = norms.build("frn", 6, learn_eps=False)
    assert "eps_learned" not in dict(layer.named_parameters())
    layer.check((8, 6, 1, 2))
    for shape in ((8, 6), (8, 6, 1, 1)):
        with pytest.raises(norms.NormError, match=r"map of 1 position.*use learn_eps=auto"):
            layer.check(shape)
        for choice in ("auto", True):
            norms.build("frn", 6, learn_eps=choice).check(shape)


def test_learn_eps_is_auto_true_or_false():
    with pytest.raises(norms.NormError, match="learn_eps must be auto, true or false; got 'always'"):
        norms.build("frn", 6, learn_eps="always")


def test_it_starts_where_the_paper_does():
    layer = norms.build("frn", 6)
    starts = {name: parameter.unique().tolist() for name, parameter in layer.named_parameters()}
    assert starts == {"weight": [1], "bias": [0], "tau": [0], "eps_learned": [pytest.approx(1e-4)]}
    assert layer.eps == 1e-6


def test_timm_has_the_same_layer(draw):
    timm = pytest.importorskip("timm.layers")
    for activated in (True, False):
        ours = norms.build("frn", 6, eps=1e-5, learn_eps=False, activated=activated)
        theirs = timm.FilterResponseNormTlu2d(6, apply_act=activated)
        assert set(ours.state_dict()) == set(theirs.state_dict())
        with torch.no_grad():
            for number, parameter in enumerate(theirs.parameters()):
                parameter.copy_(draw((6, 1), number, dtype=torch.float32).flatten())
        ours.load_state_dict(theirs.state_dict())
        x = draw((4, 6, 5, 3), dtype=torch.float32).requires_grad_()
        y, wanted = ours(x), theirs(x)
        same(y, wanted, 1e-5)
        weights = torch.sin(wanted.detach())
        names = [name for name, _ in ours.named_parameters()]
        got = torch.autograd.grad((y * weights).sum(), [x, *map(ours.get_parameter, names)])
        want = torch.autograd.grad((wanted * weights).sum(), [x, *map(theirs.get_parameter, names)])
        for a, b in zip(got, want, strict=True):
            same(a, b, 1e-4)
