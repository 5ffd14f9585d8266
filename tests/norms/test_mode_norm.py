"""Mode norm: gates, statistics of each mode, and running moments without differences of large squares."""

from __future__ import annotations

import pytest
import torch

from normbench import norms


def same(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def results(layer, x, upstream):
    y = layer(x)
    return y, *torch.autograd.grad(y, [x, layer.weight, layer.bias], upstream)


@pytest.mark.parametrize("eps", [1e-5, 0.1])
@pytest.mark.parametrize("batch", [None, 2])
def test_one_mode_is_batch_norm_in_training(make, draw, shapes, eps, batch):
    layer, bn = (
        make(key, eps=eps, batch=batch, **args) for key, args in (("mode", {"modes": 1}), ("bn", {}))
    )
    with torch.no_grad():
        for name, parameter in bn.named_parameters():
            parameter.copy_(layer.get_parameter(name))
    for shape in shapes(layer):
        x = draw(shape).requires_grad_()
        for a, b in zip(results(layer, x, draw(shape, 1)), results(bn, x, draw(shape, 1)), strict=True):
            same(a, b, 1e-11)


def test_one_modes_running_variance_is_biased_and_holds_what_the_batches_differ_by(make, draw, images):
    layer = make("mode", modes=1, momentum="cumulative")
    batches = [draw(images, seed) + 5 * seed for seed in range(4)]
    for x in batches:
        layer(x)
    everything = torch.cat(batches).transpose(0, 1).flatten(1)
    same(layer.running_mode_mean[0], everything.mean(1))
    same(layer.running_mode_var[0], everything.var(1, correction=0), 1e-11)


def decided(layer, modes, high):
    """Let the gate send images whose first channel is high to the last mode and all others to the first."""
    with torch.no_grad():
        layer.gate_weight.zero_()
        layer.gate_bias.fill_(-1e4)
        layer.gate_bias[0] = 0
        layer.gate_weight[modes - 1, 0] = 1e4
        layer.gate_bias[modes - 1] = -1e4 * high


def test_decided_gates_make_a_batch_norm_of_every_part_of_the_batch(make, draw, images):
    layer, bn = make("mode", modes=3, affine=False), make("bn", affine=False)
    decided(layer, 3, high=50.0)
    parts = draw((5, *images[1:]), 1), draw((3, *images[1:]), 2) + 100
    same(layer(torch.cat(parts)), torch.cat([bn(part) for part in parts]), 1e-11)


def test_a_mode_without_images_stays_finite_and_changes_no_output(make, draw, images):
    layer, bn = make("mode", modes=3, affine=False, momentum=0.5), make("bn", affine=False)
    decided(layer, 3, high=1e4)
    x = draw(images).requires_grad_()
    y = layer(x)
    grads = torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])
    same(y, bn(x), 1e-11)
    assert all(t.isfinite().all() for t in (*grads, *layer.buffers(), layer.eval()(x)))


def test_renaming_the_modes_changes_nothing(make, draw, images):
    first, second = make("mode", modes=3), make("mode", modes=3)
    order = torch.tensor([2, 0, 1])
    with torch.no_grad():
        second.gate_weight.copy_(first.gate_weight[order])
        second.gate_bias.copy_(first.gate_bias[order])
    same(first(draw(images)), second(draw(images)))
    same(first.running_mode_var[order], second.running_mode_var)
    same(first.eval()(draw(images, 1)), second.eval()(draw(images, 1)))


def test_evaluation_looks_at_one_image_at_a_time(make, draw, images):
    layer = make("mode", modes=3)
    layer(draw(images))
    x = draw(images, 1)
    same(layer.eval()(x)[1:2], layer(x[1:2]), 1e-13)


def test_workers_have_modes_of_their_own_whose_running_moments_are_averaged(make, draw, images):
    together, x = make("mode", batch=2, momentum=0.25), draw(images)
    y = together(x)
    first, second = 0.0, 0.0
    for part, mixed in zip(x.split(2), y.split(2), strict=True):
        lone = make("mode", momentum=1.0)
        same(lone(part), mixed)
        first = first + lone.running_mode_mean / 2
        second = second + (lone.running_mode_var + lone.running_mode_mean.square()) / 2
    same(together.running_mode_mean, 0.25 * first)
    same(together.running_mode_var, 0.25 * second + 0.75 - (0.25 * first).square())


def test_running_variances_keep_their_digits_in_fp32_far_from_the_centre(make, draw, images):
    narrow, wide = make("mode", dtype=torch.float32), make("mode")
    for seed in range(3):
        x = (draw(images, seed) + 3000).float()
        narrow(x)
        wide(x.double())
    torch.testing.assert_close(narrow.running_mode_var.double(), wide.running_mode_var, rtol=1e-4, atol=0)


def gates(**args):
    layer = norms.build("mode", 64, modes=4, **args)
    return layer.gate_weight.detach(), layer.gate_bias.detach()


def test_initial_gates_depend_on_the_seed_of_their_lane_alone():
    weight, bias = gates(lanes=3, seeds=[5, 1, 9])
    for lane, seed in enumerate((5, 1, 9)):
        lone_weight, lone_bias = gates(seeds=[seed])
        assert torch.equal(weight.view(3, 4, 64)[lane], lone_weight)
        assert torch.equal(bias.view(3, 4)[lane], lone_bias)
    assert not torch.equal(weight[:4], weight[4:8])


def test_initial_gates_are_distributed_as_in_the_authors_code():
    weight, bias = gates(lanes=200, seeds=range(200))
    noise = (weight - 1 / 4) / 0.01
    assert abs(noise.mean()) < 0.02
    assert abs(noise.std() - 1) < 0.02
    assert bias.abs().max() <= 1 / 8
    assert abs(bias.std() - 1 / 8 / 3**0.5) < 0.005


def test_without_seeds_initial_gates_come_from_torchs_global_generator():
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(gates()[0])
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_gates_are_spared_from_weight_decay():
    layer = norms.build("mode", 6)
    assert (layer.roles["gate_weight"], layer.roles["gate_bias"]) == ("mixture", "mixture")


def test_a_gate_with_one_value_per_statistic_is_refused():
    norms.build("mode", 6).check((2, 6))
    with pytest.raises(norms.NormError, match="mode: a statistic must average at least 2 values"):
        norms.build("mode", 6, batch=1).check((4, 6, 1, 1))


@pytest.mark.parametrize(("args", "message"), [
    ({"modes": 0}, "mode: modes must be a whole number ≥ 1; got 0"),
    ({"seeds": [1, 2, 3]}, "mode: seeds must be one value or one per lane; got 3 values for 2 lanes"),
])  # fmt: skip
def test_arguments_out_of_range_are_named(args, message):
    with pytest.raises(norms.NormError) as error:
        norms.build("mode", 6, 2, **args)
    assert message in str(error.value)


def test_what_a_layer_prints_tells_its_modes():
    assert str(norms.build("mode", 6, modes=4)).endswith("momentum=0.1, batch=None, modes=4)")
