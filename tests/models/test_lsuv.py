"""LSUV: every layer of every lane has output variance 1, and nothing else changes."""

from __future__ import annotations

import pytest
import torch

from normbench import data, models
from normbench.data.batches import Batches
from normbench.data.shape import Shape
from normbench.engine.initial_state import first_images
from normbench.errors import InputError
from normbench.models import lsuv
from normbench.models.layers import Conv2d, Linear

MODELS = {
    "mlp": ["model=mlp", "model.hidden=[20,15]"],
    "lenet300": ["model=lenet300"],
    "lenet5": ["model=lenet5"],
    "vgg11": ["model=vgg11", "model.width=4"],
    "resnet20": ["model=resnet20", "model.width=4"],
    "resnet50": ["model=resnet50", "model.width=4"],
}


def build(make_spec, *words, seeds=(0,), size=32):
    specs = [make_spec(*words, "model.init=lsuv", f"seed={seed}") for seed in seeds]
    network = models.build(specs, Shape(1, size, 10, 1, 1)).double()
    network.begin_step(0, 10)
    return network


def images(lanes=1, size=32, number=24):
    """Images with another scale and mean in every lane."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(number, lanes, size, size, generator=generator, dtype=torch.float64)
    scale = torch.tensor([0.5, 3.0, 1.0], dtype=torch.float64)[:lanes].view(1, -1, 1, 1)
    return scale * x + scale


def layers(network):
    return [m for m in network.modules() if isinstance(m, Conv2d | Linear)]


def variances(network, x, lanes):
    """Variance of the output of every layer and lane, (layers, K)."""
    found = []

    def measure(layer, inputs, y):
        found.append(torch.stack([lane.var(correction=0) for lane in y.chunk(lanes, 1)]))

    hooks = [layer.register_forward_hook(measure) for layer in layers(network)]
    network(x)
    for hook in hooks:
        hook.remove()
    return torch.stack(found)


@pytest.mark.parametrize("model", sorted(MODELS))
@pytest.mark.parametrize("norm", ["none", "gn", "bn"])
def test_the_output_of_every_layer_and_lane_has_variance_1(make_spec, model, norm):
    size = 28 if model == "lenet300" else 32
    words = [*MODELS[model], f"norm={norm}", "batch=24"]
    network = build(make_spec, *words, seeds=(4, 5, 6), size=size)
    x = images(3, size)
    assert (variances(network, x, 3) - 1).abs().max() > 0.3
    lsuv.equalize(network, x, 3)
    found = variances(network, x, 3)
    assert len(found) == len(layers(network))
    torch.testing.assert_close(found, torch.ones_like(found), rtol=0, atol=1e-9)


@pytest.mark.parametrize("weight", ["none", "wn", "scaled_ws", "centered"])
def test_weight_maps_with_a_scale_are_scaled(make_spec, weight):
    network = build(make_spec, "model=lenet5", "norm=none", f"weight={weight}", seeds=(4, 5, 6))
    lsuv.equalize(network, images(3), 3)
    found = variances(network, images(3), 3)
    torch.testing.assert_close(found, torch.ones_like(found), rtol=0, atol=1e-9)


def test_the_layer_after_dropout_has_output_variance_1(make_spec):
    network = build(make_spec, *MODELS["mlp"], "norm=none", "model.dropout=0.5", seeds=(4, 5, 6))
    lsuv.equalize(network, images(3), 3)
    found = variances(network, images(3), 3)  # as at the first step, with its masks
    torch.testing.assert_close(found, torch.ones_like(found), rtol=0, atol=1e-9)


def test_weights_start_orthonormal_and_are_only_scaled(make_spec):
    network = build(make_spec, "model=lenet5", "norm=none", seeds=(4, 5))
    lsuv.equalize(network, images(2), 2)
    for layer in layers(network):
        for weight in layer.weight.unflatten(0, (2, -1)):
            rows = weight.squeeze(0).flatten(1) if isinstance(layer, Linear) else weight.flatten(1)
            short = rows if rows.shape[0] <= rows.shape[1] else rows.T
            gram = short @ short.T
            unit = torch.eye(len(gram), dtype=gram.dtype) * gram.diagonal().mean()
            torch.testing.assert_close(gram, unit, rtol=0, atol=1e-5 * unit.max().item())
        assert not layer.bias.any()


def test_lanes_are_scaled_as_they_would_be_alone(make_spec):
    network = build(make_spec, "model=resnet20", "model.width=4", "norm=bn", "batch=24", seeds=(4, 5, 6))
    lsuv.equalize(network, images(3), 3)
    for k, seed in enumerate((4, 5, 6)):
        alone = build(make_spec, "model=resnet20", "model.width=4", "norm=bn", "batch=24", seeds=(seed,))
        lsuv.equalize(alone, images(3)[:, k : k + 1], 1)
        for (name, p), lone in zip(network.named_parameters(), alone.parameters(), strict=True):
            torch.testing.assert_close(
                p.unflatten(0, (3, -1))[k].reshape(-1), lone.reshape(-1), rtol=1e-10, atol=1e-12, msg=name
            )


def test_statistics_of_norms_do_not_change(make_spec):
    network = build(make_spec, "model=lenet5", "norm=bn", "batch=24")
    before = {name: buffer.clone() for name, buffer in network.named_buffers()}
    lsuv.equalize(network, images(), 1)
    assert all(torch.equal(buffer, before[name]) for name, buffer in network.named_buffers())
    assert network.training


def test_a_lane_without_variance_does_not_change_and_does_not_affect_others(make_spec):
    network = build(make_spec, "model=lenet5", "norm=none", seeds=(4, 5, 6))
    clean = build(make_spec, "model=lenet5", "norm=none", seeds=(4, 5, 6))
    x = images(3)
    lsuv.equalize(clean, x, 3)
    x[:, 1] = 0
    before = [layer.weight.detach().clone().unflatten(0, (3, -1)) for layer in layers(network)]
    lsuv.equalize(network, x, 3)
    for layer, other, start in zip(layers(network), layers(clean), before, strict=True):
        weight, wanted = (m.weight.unflatten(0, (3, -1)) for m in (layer, other))
        assert torch.equal(weight[1], start[1])
        assert torch.equal(weight[::2], wanted[::2])


@pytest.mark.parametrize("weight", ["ws", "spectral"])
def test_a_weight_map_that_fixes_the_scale_is_refused(make_spec, weight):
    with pytest.raises(InputError, match=f"the scale of the weights, but weight={weight} fixes it; use"):
        models.architecture(make_spec("model.init=lsuv", f"weight={weight}"))


@pytest.mark.parametrize(("total", "images"), [(1, 128), (32, 128), (48, 144), (200, 200), (50, 150)])
def test_the_variances_are_those_of_the_first_128_images_in_whole_steps(make_spec, total, images):
    """Another number gives other initial weights: raise `numerics` with it."""
    words = ["data=synthetic", "data.channels=1", "data.size=2", "data.train_size=210", "data.test_size=2"]
    batches = Batches(data.load(make_spec(*words).data), [0, 1], total)
    x = first_images(batches, lsuv.IMAGES, total)
    assert x.shape == (images, 2, 2, 2)
    assert torch.equal(x[:total], batches.at(0)[0])
    assert torch.equal(x[-total:], batches.at(images // total - 1)[0])


def test_the_variances_are_those_of_one_epoch_if_it_is_shorter(make_spec):
    words = ["data=synthetic", "data.channels=1", "data.size=2", "data.train_size=70", "data.test_size=2"]
    batches = Batches(data.load(make_spec(*words).data), [0], 32)
    assert len(first_images(batches, lsuv.IMAGES, 32)) == 64
