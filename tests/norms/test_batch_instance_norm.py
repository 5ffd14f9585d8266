"""Batch-instance norm: both ends of the gate, the clipping, and the gate's learning rate."""

from __future__ import annotations

import pytest
import torch

from normbench import data, norms
from normbench.engine.stack import Stack
from normbench.engine.train import train_stack


def same(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


def gated(layer, gate: float):
    with torch.no_grad():
        layer.gate.fill_(gate)
    return layer


@pytest.mark.parametrize(("gate", "key"), [(1.0, "bn"), (0.0, "in"), (7.0, "bn"), (-3.0, "in")])
@pytest.mark.parametrize("batch", [None, 2])
def test_at_either_end_of_the_gate_it_is_batch_or_instance_norm(make, draw, images, gate, key, batch):
    layer = gated(make("bin", batch=batch), gate)
    other = make(key, batch=batch) if key == "bn" else make(key)
    for seed in range(3):
        same(layer(draw(images, seed)), other(draw(images, seed)))
    same(layer.eval()(draw(images, 9)), other.eval()(draw(images, 9)))


def test_between_the_ends_it_is_the_weighted_sum(make, draw, images):
    x = draw(images)
    of_batch, of_image = make("bn", affine=False)(x), make("in", affine=False)(x)
    same(gated(make("bin", affine=False), 0.3)(x), 0.3 * of_batch + 0.7 * of_image)


@pytest.mark.parametrize("variance", ["biased", "unbiased"])
def test_its_running_statistics_are_those_of_batch_norm(make, draw, images, variance):
    layer, bn = make("bin", variance=variance), make("bn", variance=variance)
    for seed in range(3):
        layer(draw(images, seed)), bn(draw(images, seed))
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        same(layer.get_buffer(name), bn.get_buffer(name))


def test_a_new_layer_is_batch_norm(draw, images):
    x = draw(images)
    same(norms.build("bin", 6).double()(x), norms.build("bn", 6).double()(x))


def test_the_gate_is_clipped_before_every_step_and_leaves_a_bound_again(make, draw, images):
    layer = gated(make("bin"), 1.0)
    with torch.no_grad():
        layer.gate.copy_(torch.tensor([1.4, -0.2, 0.5, 1.0, 0.0, float("nan")]))
    x = draw(images)
    layer(x).square().sum().backward()
    assert layer.gate.grad[:2].eq(0).all()  # outside, the output does not depend on the gate
    layer.begin_step(1, 3)
    torch.testing.assert_close(
        layer.gate.detach(), torch.tensor([1, 0, 0.5, 1, 0, torch.nan]).double(), equal_nan=True
    )
    layer.gate.grad = None
    (layer(x) * draw(images, 1)).sum().backward()
    assert layer.gate.grad[:5].ne(0).all()


WORDS = ["model=lenet5", "data=digits", "norm=bin", "placement.sites=conv*", "batch=16", "steps=40",
         "engine.device=cpu", "schedule=constant", "optim.momentum=0"]  # fmt: skip


def test_training_keeps_the_gates_in_bounds_and_moves_them(make_spec):
    specs = [make_spec(*WORDS, "optim.lr=0.1", f"seed={seed}") for seed in range(2)]
    dataset = data.load(specs[0].data, size=32)
    for result in train_stack(specs, dataset, torch.device("cpu")):
        gates = [t for name, t in result.final_state.items() if name.endswith(".gate")]
        assert len(gates) == 2
        shares = torch.cat(gates).clamp(0, 1)
        assert shares.lt(0.99).any()


def test_gates_learn_ten_times_as_fast_as_the_rest(make_spec):
    words = [*WORDS, "optim.weight_decay=0", "optim.lr_scaling=none", "engine.precision=fp64"]
    spec = make_spec(*words, "optim.lr=1e-3")
    dataset = data.load(spec.data, size=32)
    stack = Stack([spec], dataset, torch.device("cpu"))
    layer = next(iter(stack.network.norms().values()))
    seen = {}
    update = stack.optimizer.step

    def updating(gradients):
        seen.update(zip(stack.optimizer.names, [g.clone() for g in gradients], strict=True))
        update(gradients)

    stack.optimizer.step = updating
    before = {name: p.detach().clone() for name, p in layer.named_parameters()}
    stack.step(0)
    for name, factor in (("gate", 10.0), ("weight", 1.0)):
        (gradient,) = [
            g for n, g in seen.items() if stack.network.get_parameter(n) is layer.get_parameter(name)
        ]
        assert gradient.abs().max() > 0
        same(before[name] - layer.get_parameter(name), factor * 1e-3 * gradient)
