"""Momentum in the layers: weights and schedules per lane; momentum does not change training."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from normbench import norms
from normbench.momentum import parse_momentum
from normbench.norms.ema import MovingAverage

STEPS = 20
EVERY = (0.1, "cumulative", "debiased:0.01", "linear:0.5:0.01", "cosine:0.5:0.01", "exponential:0.5:0.01",
         "step:0.5:0.5:0.25:0.1")  # fmt: skip


def told(layer, x, step: int):
    layer.begin_step(step, STEPS)
    return layer(x)


def test_weights_of_all_forms_side_by_side_leave_what_their_effects_say():
    average = MovingAverage([parse_momentum(momentum) for momentum in EVERY])
    kept = torch.ones(len(EVERY), dtype=torch.float64)
    for step in range(STEPS):
        average.begin_step(step, STEPS)
        weight = average.weight(torch.full((len(EVERY),), step + 1))
        assert torch.equal(weight, average.weight_at(step, STEPS))
        kept *= 1 - weight
    effects = [momentum.effect(STEPS) for momentum in average.momenta]
    assert weight.tolist() == pytest.approx([effect.weight for effect in effects], rel=1e-12)
    assert kept.tolist() == pytest.approx([effect.initial for effect in effects], rel=1e-9, abs=1e-15)


def test_a_debiased_weight_keeps_its_digits_for_a_small_momentum():
    average = MovingAverage([parse_momentum("debiased:1e-18")])
    assert average.weight(torch.tensor(4)).item() == pytest.approx(0.25, rel=1e-12)


@pytest.mark.parametrize("key", ["bn", "ghost", "brn"])
def test_lanes_with_schedules_and_without_equal_lone_layers(make, draw, images, key):
    together = make(key, len(EVERY), momentum=EVERY)
    alone = [make(key, momentum=momentum) for momentum in EVERY]
    for step in range(6):
        x = draw(images, step, lanes=len(EVERY))
        told(together, x, step)
        for layer, part in zip(alone, x.chunk(len(EVERY), 1), strict=True):
            told(layer, part, step)
    for name in ("running_mean", "running_var"):
        wanted = torch.cat([layer.get_buffer(name) for layer in alone])
        torch.testing.assert_close(together.get_buffer(name), wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("start", "weights"), [
    ("blend", [1.0, 1 / 2, 1 / 3]), ("replace", [1.0, 1 / 2, 1 / 3]), ("count", [1 / 2, 1 / 3, 1 / 4]),
])  # fmt: skip
def test_the_start_of_an_average_decides_what_the_first_batch_does(start, weights):
    average = MovingAverage([parse_momentum("cumulative")], start)
    assert [average.weight(torch.tensor(t)).item() for t in (1, 2, 3)] == pytest.approx(weights)
    constant = MovingAverage([parse_momentum(0.25)], start)
    assert constant.weight(torch.tensor(1)).item() == (1.0 if start == "replace" else 0.25)
    assert constant.weight(torch.tensor(2)).item() == 0.25


def test_a_layer_takes_its_momentum_as_number_text_value_or_torchs_none():
    for given in (0.25, "keras:0.75", parse_momentum(0.25), [parse_momentum(0.25)]):
        assert norms.build("bn", 6, momentum=given).momenta == (parse_momentum(0.25),)
    assert norms.build("bn", 6, momentum=None).momenta == (parse_momentum("cumulative"),)
    lanes = norms.build("bn", 6, 3, momentum=[None, 0.25, parse_momentum("debiased:0.1")])
    assert [str(momentum) for momentum in lanes.momenta] == ["cumulative", "0.25", "debiased:0.1"]


@pytest.mark.parametrize("momentum", [m for m in EVERY if ":" in str(m) and "debiased" not in str(m)])
def test_a_schedule_moves_the_statistics_by_the_weight_of_its_step(make, draw, images, momentum):
    layer, wanted = make("bn", momentum=momentum), torch.zeros(images[1], dtype=torch.float64)
    for step in range(STEPS):
        x = draw(images, step)
        told(layer, x, step)
        wanted += parse_momentum(momentum).at(step / STEPS) * (x.mean((0, 2, 3)) - wanted)
    torch.testing.assert_close(layer.running_mean, wanted, rtol=1e-12, atol=1e-12)


def test_a_schedule_goes_on_after_loading_where_it_was(make, draw, images):
    straight, first = make("bn", momentum="linear:0.5:0.01"), make("bn", momentum="linear:0.5:0.01")
    for step in range(6):
        told(straight, draw(images, step), step)
    for step in range(3):
        told(first, draw(images, step), step)
    resumed = make("bn", momentum="linear:0.5:0.01")
    resumed.load_state_dict(first.state_dict())
    for step in range(3, 6):
        told(resumed, draw(images, step), step)
    assert torch.equal(resumed.running_var, straight.running_var)


@pytest.mark.parametrize("momentum", ["linear:0.1:0.001", ["step:0.5:0.5:0.1", 0.1]])
def test_a_schedule_without_word_of_the_run_is_refused_at_the_first_tracked_step(
    make, draw, images, momentum
):
    lanes = 1 if isinstance(momentum, str) else len(momentum)
    layer, x = make("bn", lanes, momentum=momentum), draw(images, lanes=lanes)
    assert layer.eval()(x).isfinite().all()
    with pytest.raises(norms.NormError, match=r"nobody told the layer how far it is; call begin_step\(step"):
        layer.train()(x)
    told(layer, x, 0)


def trained(key: str, draw, **args):
    """A small net after twenty steps of gradient descent on random images: its weights, and its norm."""
    torch.manual_seed(0)
    norm = norms.build(key, 5, **args)
    net = nn.Sequential(nn.Conv2d(3, 5, 3), norm, nn.ReLU(), nn.Flatten(), nn.Linear(5 * 16, 4))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    for step in range(STEPS):
        norm.begin_step(step, STEPS)
        loss = nn.functional.cross_entropy(
            net(draw((4, 3, 6, 6), step, dtype=torch.float32)), torch.arange(4)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return [p.detach() for p in net.parameters()], norm


@pytest.mark.parametrize("key", ["bn", "ghost", "sync", "brn"])
def test_momentum_never_touches_training(key, draw):
    """For brn: that of evaluation; the averages that training normalizes by have one of their own."""
    args = {"ghost_size": 2} if key == "ghost" else {}
    momenta = (0.9, 0.001, "linear:0.5:0.1")
    runs = [trained(key, draw, momentum=momentum, **args) for momentum in momenta]
    for weights, _ in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(weights, runs[0][0], strict=True))
    assert len({norm.running_var.sum().item() for _, norm in runs}) == len(momenta)


@pytest.mark.parametrize(("key", "name"), [("brn", "renorm_momentum"), ("frozen", "momentum")])
def test_momentum_touches_the_training_of_what_reads_history(key, name, draw):
    (one, _), (other, _) = (trained(key, draw, **{name: momentum}) for momentum in (0.9, 0.001))
    assert not torch.equal(one[0], other[0])
