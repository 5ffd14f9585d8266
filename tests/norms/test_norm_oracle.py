"""Every norm against a naive transcription of its paper, and against torch where torch has it."""

from __future__ import annotations

import keyword

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from normbench import norms

#: Arguments beside the defaults under which a norm is compared.
VARIANTS = {
    "bn": ({"eps": 0.1},),
    "ghost": ({"ghost_size": 2}, {"ghost_size": 1}, {"ghost_size": 4}),
    "gn": ({"num_groups": 3}, {"num_groups": 1}, {"group_size": 2, "eps": 0.1}),
    "ln_c": ({"eps": 0.1},),
    "lrn": (
        {"size": 4, "alpha": 2.0},
        {"size": 1, "alpha": 1.0, "beta": 0.5},
        {"size": 11, "alpha": 3.0, "k": 1},
    ),
    "rms": ({"eps": 0.1},),
}


def variants(key: str):
    return ({}, *VARIANTS.get(key, ()))


def transcription(oracles, key):
    name = f"{key}_" if keyword.iskeyword(key) else key
    assert name in oracles, f"norm {key} has no oracle: add a function {name} to tests/norms/oracles.py"
    return oracles[name]


@pytest.mark.parametrize("lanes", [1, 2])
def test_output_equals_the_papers_equations(key, make, draw, shapes, oracles, lanes):
    oracle = transcription(oracles, key)
    for args in variants(key):
        layer = make(key, lanes, **args)
        if key == "ghost":
            args = {"ghost_size": layer.ghost_size}
        for shape in shapes(layer):
            x = draw(shape, lanes=lanes)
            y = layer(x)
            for lane in range(lanes):
                mine = slice(lane * shape[1], (lane + 1) * shape[1])
                affine = {name: p.detach()[mine].numpy() for name, p in layer.named_parameters()}
                wanted = torch.from_numpy(oracle(x[:, mine].numpy(), **affine, **args))
                torch.testing.assert_close(y[:, mine], wanted, rtol=0, atol=1e-10)


#: The same from torch: x, γ, β and the layer → y.
TORCH = {
    "bn": lambda x, w, b, layer: F.batch_norm(x, None, None, w, b, training=True, eps=layer.eps),
    "ghost": lambda x, w, b, layer: torch.cat(
        [F.batch_norm(part, None, None, w, b, training=True) for part in x.split(layer.ghost_size)]
    ),
    "gn": lambda x, w, b, layer: F.group_norm(x, layer.num_groups, w, b, layer.eps),
    "ln_chw": lambda x, w, b, layer: (
        F.layer_norm(x, x.shape[1:]) * w.view(-1, *[1] * (x.dim() - 2)) + b.view(-1, *[1] * (x.dim() - 2))
    ),
    "ln_c": lambda x, w, b, layer: F.layer_norm(x.movedim(1, -1), w.shape, w, b, layer.eps).movedim(-1, 1),
    "in": lambda x, w, b, layer: F.instance_norm(x, weight=w, bias=b),
    "rms": lambda x, w, b, layer: F.rms_norm(x.movedim(1, -1), w.shape, w, layer.eps).movedim(-1, 1),
    "lrn": lambda x, w, b, layer: F.local_response_norm(
        x.reshape(*x.shape[:2], -1), layer.size, layer.alpha, layer.beta, layer.k
    ).view(x.shape),
}


@pytest.mark.parametrize("channels", [6, 20])
@pytest.mark.parametrize("name", sorted(TORCH))
def test_output_and_gradients_equal_torchs(name, make, draw, shapes, channels):
    layer = make(name, channels=channels)
    for shape in shapes(layer):
        shape = (shape[0], channels, *shape[2:])
        x, same = (draw(shape).requires_grad_() for _ in range(2))
        y, wanted = layer(x), TORCH[name](same, layer.weight, layer.bias, layer)
        torch.testing.assert_close(y, wanted, rtol=0, atol=1e-10)
        projection = draw(shape, 1)
        got = torch.autograd.grad((y * projection).sum(), [x, *layer.parameters()])
        expected = torch.autograd.grad((wanted * projection).sum(), [same, *layer.parameters()])
        for a, b in zip(got, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=1e-10)


def test_every_norm_that_torch_has_is_compared_with_torchs():
    assert set(norms.catalogue()) - set(TORCH) == {"none", "affine"}


def test_torchs_own_batch_norm_module_has_the_same_state(draw, images):
    ours, torchs = norms.build("bn", images[1]), nn.BatchNorm2d(images[1])
    assert {k: v.shape for k, v in ours.state_dict().items()} == {
        k: v.shape for k, v in torchs.state_dict().items()
    }
