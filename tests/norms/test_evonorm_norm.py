"""EvoNorm-S0 and -B0: limits, where they are an affine map, running variance, and timm's layers."""

from __future__ import annotations

import pytest
import torch

from normbench import norms


def same(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


KEYS = ("evonorm_s0", "evonorm_b0")


@pytest.mark.parametrize("key", KEYS)
def test_where_no_activation_follows_it_is_an_affine_map(make, draw, shapes, key):
    layer, affine = make(key, activated=False), make("affine")
    assert {name for name, _ in layer.named_parameters()} == {"weight", "bias"}
    for shape in shapes(layer):
        same(layer(draw(shape)), affine(draw(shape)))
        same(layer.eval()(draw(shape)), affine(draw(shape)))
    layer.check((1, 6, 1, 1))


def test_s0_without_its_gates_slope_is_half_the_input_over_the_groups_deviation(make, draw, images):
    layer = make("evonorm_s0", group_size=3, affine=False)
    torch.nn.init.zeros_(layer.v)
    x = draw(images)
    deviation = (x.reshape(4, 2, -1).var(2, unbiased=False) + 1e-5).sqrt()
    same(layer(x), x / 2 / deviation.repeat_interleave(3, 1)[:, :, None, None])


def test_s0_with_a_steep_gate_is_a_relu_over_the_groups_deviation(make, draw, images):
    layer = make("evonorm_s0", group_size=3, affine=False)
    torch.nn.init.constant_(layer.v, 1e6)
    x = draw(images)
    deviation = (x.reshape(4, 2, -1).var(2, unbiased=False) + 1e-5).sqrt()
    same(layer(x), torch.relu(x) / deviation.repeat_interleave(3, 1)[:, :, None, None])


@pytest.mark.parametrize(("channels", "size"), [(6, 6), (16, 16), (64, 16), (20, 10), (17, 1)])
def test_s0_has_the_groups_of_group_norm(channels, size):
    layer, gn = norms.build("evonorm_s0", channels), norms.build("gn", channels)
    assert (layer.num_groups, layer.group_size) == (gn.num_groups, gn.group_size) == (channels // size, size)


def test_s0_refuses_a_channel_per_group_on_one_position_and_what_does_not_divide():
    layer = norms.build("evonorm_s0", 6, group_size=1)
    layer.check((8, 6, 1, 2))
    for shape in ((8, 6), (8, 6, 1, 1)):
        with pytest.raises(norms.NormError, match=r"evonorm_s0: .*a group of 1 channel on a map of 1 p"):
            layer.check(shape)
        norms.build("evonorm_s0", 6).check(shape)
    with pytest.raises(norms.NormError, match="evonorm_s0: group_size must divide the channels; got group_"):
        norms.build("evonorm_s0", 6, group_size=4)
    with pytest.raises(norms.NormError, match="evonorm_s0: give num_groups or group_size, not both"):
        norms.build("evonorm_s0", 6, group_size=3, num_groups=2)


def test_b0_with_v_at_zero_divides_by_the_larger_deviation(make, draw, images):
    layer = make("evonorm_b0", affine=False)
    torch.nn.init.zeros_(layer.v)
    x = draw(images)
    batch = (x.var((0, 2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
    own = (x.var((2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
    assert (own > batch).any() and (own < batch).any()
    same(layer(x), x / torch.maximum(batch, own))


def test_b0_of_one_image_divides_by_its_deviation_and_what_is_positive_of_v_x(make, draw, images):
    layer = make("evonorm_b0", affine=False)
    x = draw(images)[:1]
    own = (x.var((2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()
    same(layer(x), x / (own + torch.relu(layer.v.view(-1, 1, 1) * x)))


def test_b0_never_divides_by_less_than_the_batchs_deviation(make, draw, images):
    layer = make("evonorm_b0", affine=False)
    torch.nn.init.normal_(layer.v, generator=torch.Generator().manual_seed(0))
    x = draw(images)
    assert (layer(x).abs() <= (x / x.std((0, 2, 3), unbiased=False, keepdim=True)).abs()).all()


def test_b0_keeps_the_biased_variance_and_no_mean(make, draw, images):
    layer = make("evonorm_b0", momentum=0.25)
    layer(draw(images))
    assert set(layer.state_dict()) == {"weight", "bias", "v", "running_var", "num_batches_tracked"}
    same(layer.running_var, 0.75 + 0.25 * draw(images).var((0, 2, 3), unbiased=False))


def test_b0_evaluates_by_its_running_variance_and_the_images_own(make, draw, images):
    layer = make("evonorm_b0", momentum=1.0)
    trained = layer(draw(images))
    same(layer.eval()(draw(images)), trained)
    other = torch.cat([draw(images)[:1], 100 * draw(images, 1)])
    same(layer(other)[:1], trained[:1])


def test_b0_with_several_workers_is_a_layer_for_each_and_averages_their_variances(make, draw, images):
    together, alone = make("evonorm_b0", batch=2), [make("evonorm_b0") for _ in range(2)]
    parts = draw(images).split(2)
    same(together(draw(images)), torch.cat([layer(part) for layer, part in zip(alone, parts, strict=True)]))
    same(together.running_var, (alone[0].running_var + alone[1].running_var) / 2)
    assert together.num_batches_tracked == 1
    with pytest.raises(norms.NormError, match="multiple of 2 images"):
        together(draw((3, 6, 2, 2)))


@pytest.mark.parametrize("batch", [None, 2])
def test_b0_evaluates_with_batch_statistics_where_asked_or_without_running_ones(make, draw, images, batch):
    layer, untracked = make("evonorm_b0", batch=batch), make("evonorm_b0", batch=batch, track=False)
    trained = layer(draw(images))
    layer.eval().source = "batch"
    assert torch.equal(layer(draw(images)), trained)
    assert torch.equal(untracked.eval()(draw(images)), trained)


def test_b0_refuses_a_batch_of_one_value():
    with pytest.raises(norms.NormError, match=r"evonorm_b0: .*1 image per statistic on a map of 1 position"):
        norms.build("evonorm_b0", 6).check((1, 6, 1, 1))
    with pytest.raises(norms.NormError, match="use batch ≥ 2"):
        norms.build("evonorm_b0", 6, batch=1).check((8, 6))
    norms.build("evonorm_b0", 6).check((2, 6))
    norms.build("evonorm_b0", 6).check((1, 6, 1, 2))


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(("key", "name", "ours", "theirs"), [
    ("evonorm_s0", "EvoNorm2dS0", {"num_groups": 32}, {}),
    ("evonorm_s0", "EvoNorm2dS0", {"group_size": 4}, {"group_size": 4}),
    ("evonorm_s0", "EvoNorm2dS0", {"activated": False}, {"apply_act": False}),
    ("evonorm_b0", "EvoNorm2dB0", {"eps": 1e-3}, {}),
    ("evonorm_b0", "EvoNorm2dB0", {"activated": False}, {"apply_act": False}),
])  # fmt: skip
def test_timm_has_the_same_layers(draw, key, name, ours, theirs, affine):
    layers = pytest.importorskip("timm.layers")
    other = getattr(layers, name)(64, **theirs)
    with torch.no_grad():
        for number, parameter in enumerate(other.parameters()):
            if affine or parameter is other.v:
                parameter.copy_(draw((64, 1), number, dtype=torch.float32).flatten())
    layer = norms.build(key, 64, affine=affine, **ours)
    names = [name for name, _ in layer.named_parameters()]
    layer.load_state_dict({name: other.state_dict()[name] for name in names}, strict=False)
    x = draw((4, 64, 5, 3), dtype=torch.float32).requires_grad_()
    y, wanted = layer(x), other(x)
    same(y, wanted, 2e-5)
    weights = torch.sin(wanted.detach())
    inputs = (x, *map(layer.get_parameter, names)), (x, *map(other.get_parameter, names))
    got, want = (
        torch.autograd.grad((out * weights).sum(), leaves)
        for out, leaves in zip((y, wanted), inputs, strict=True)
    )
    for a, b in zip(got, want, strict=True):
        same(a, b, 5e-4)
    if getattr(layer, "running_var", None) is not None:  # timm's is Bessel-corrected
        batch = (other.running_var - 0.9) / 0.1 * (1 - 1 / 60)
        same(layer.running_var, 0.9 + 0.1 * batch, 1e-5)
