"""Batch norm: a drop-in for torch's layer, running statistics in every form, chunks of a worker's batch."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from normbench import norms
from normbench.momentum import parse_momentum
from normbench.norms.ema import MovingAverage
from normbench.norms.methods import bn as batch

MODULES = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}


def train(layer, x):
    """One step of gradient descent on a fixed projection; the output."""
    y = layer(x)
    loss = (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)).sum()
    for parameter, grad in zip(
        layer.parameters(), torch.autograd.grad(loss, list(layer.parameters())), strict=True
    ):
        parameter.data -= 0.1 * grad
    return y


@pytest.mark.parametrize("momentum", [0.1, 1.0, 0.0, "cumulative"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_three_steps_and_an_evaluation_match_torchs_layer(draw, shapes, momentum, dtype):
    ours = norms.build("bn", 6, momentum=momentum, eps=1e-3).to(dtype)
    for shape in shapes(ours):
        ours = norms.build("bn", 6, momentum=momentum, eps=1e-3).to(dtype)
        torchs = MODULES[len(shape)](6, eps=1e-3, momentum=None if momentum == "cumulative" else momentum).to(
            dtype
        )
        torchs.load_state_dict(ours.state_dict())
        for seed in range(3):
            x = draw(shape, seed, dtype=dtype)
            assert torch.equal(train(ours, x), train(torchs, x))
        back = norms.build("bn", 6, eps=1e-3).to(dtype).eval()
        back.load_state_dict(torchs.state_dict())
        x = draw(shape, 9, dtype=dtype)
        assert torch.equal(back(x), torchs.eval()(x))
        for name, tensor in torchs.state_dict().items():
            torch.testing.assert_close(ours.state_dict()[name], tensor, rtol=1e-6, atol=0)


@pytest.mark.parametrize("affine", [True, False])
def test_without_tracking_the_layer_is_torchs_without_tracking(draw, images, affine):
    ours = norms.build("bn", 6, track=False, affine=affine)
    torchs = nn.BatchNorm2d(6, track_running_stats=False, affine=affine)
    assert set(ours.state_dict()) == set(torchs.state_dict())
    x = draw(images, dtype=torch.float32)
    for mode in (True, False):
        assert torch.equal(ours.train(mode)(x), torchs.train(mode)(x))


def test_training_never_reads_the_running_statistics(make, draw, images):
    outputs = []
    for momentum in (0.9, 0.001, "cumulative", "debiased:0.1"):
        layer = make("bn", momentum=momentum)
        outputs.append(torch.stack([train(layer, draw(images, seed)) for seed in range(3)]))
    assert all(torch.equal(output, outputs[0]) for output in outputs)


def test_a_cumulative_momentum_averages_all_batches_alike(make, draw, images):
    layer = make("bn", momentum="cumulative")
    batches = [draw(images, seed) for seed in range(5)]
    for x in batches:
        layer(x)
    var = torch.stack([x.transpose(0, 1).flatten(1).var(1) for x in batches])
    torch.testing.assert_close(layer.running_var, var.mean(0), rtol=1e-12, atol=0)
    assert layer.num_batches_tracked == 5


def test_a_debiased_momentum_shows_no_trace_of_the_initial_values(make, draw, images):
    layer = make("bn", momentum="debiased:0.01")
    layer(draw(images))
    mean = draw(images).mean((0, 2, 3))
    torch.testing.assert_close(layer.running_mean, mean, rtol=1e-12, atol=0)
    layer(draw(images, 1))
    weights = torch.tensor([0.99, 1.0]) / 1.99
    second = weights[0] * mean + weights[1] * draw(images, 1).mean((0, 2, 3))
    torch.testing.assert_close(layer.running_mean, second, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("momentum", "weights"), [
    ("0.1", [0.1, 0.1, 0.1]), ("keras:0.75", [0.25, 0.25, 0.25]), ("cumulative", [1, 1 / 2, 1 / 3]),
    ("debiased:0.5", [1, 2 / 3, 4 / 7]), ("debiased:1", [1, 1, 1]),
])  # fmt: skip
def test_weight_of_the_new_batch_follows_its_formula(momentum, weights):
    average = MovingAverage([parse_momentum(momentum)])
    got = [average.weight(torch.tensor(t)).item() for t in (1, 2, 3)]
    assert got == pytest.approx(weights, rel=1e-15)


def test_evaluation_after_one_batch_of_full_weight_differs_by_bessels_correction(make, draw, images):
    layer = make("bn", momentum=1.0, affine=False, eps=1e-14)
    trained = layer(draw(images))
    values = images[0] * images[2] * images[3]
    evaluated = layer.eval()(draw(images))
    torch.testing.assert_close(evaluated, trained * ((values - 1) / values) ** 0.5, rtol=1e-12, atol=0)


def test_evaluation_with_batch_statistics_is_the_training_output_and_changes_no_state(make, draw, images):
    layer = make("bn", batch=2)
    wanted = layer(draw(images))
    before = copy.deepcopy(layer.state_dict())
    layer.eval().source = "batch"
    assert torch.equal(layer(draw(images)), wanted)
    assert all(torch.equal(tensor, before[name]) for name, tensor in layer.state_dict().items())


@pytest.mark.parametrize("gathers", [False, True], ids=["a call per worker", "one call for all"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
def test_workers_are_layers_of_their_own_whose_statistics_are_averaged(
    make, draw, images, monkeypatch, gathers, layout
):
    monkeypatch.setattr(batch, "pays_to_gather", lambda x, chunks: gathers)
    together, lone = make("bn", batch=2), make("bn")
    x, same = (draw(images).to(memory_format=layout).requires_grad_() for _ in range(2))
    statistics = []
    outputs = []
    for part in same.split(2):
        worker = copy.deepcopy(lone)
        outputs.append(worker(part))
        statistics.append((worker.running_mean, worker.running_var))
        assert worker.num_batches_tracked == 1
    y, wanted = together(x), torch.cat(outputs)
    torch.testing.assert_close(y, wanted, rtol=0, atol=1e-13)
    for tracked, parts in zip(
        (together.running_mean, together.running_var), zip(*statistics, strict=True), strict=True
    ):
        torch.testing.assert_close(tracked, torch.stack(parts).mean(0), rtol=0, atol=1e-13)
    assert together.num_batches_tracked == 1
    (got,), (expected,) = (
        torch.autograd.grad((out * out.detach().sin()).sum(), leaf) for out, leaf in ((y, x), (wanted, same))
    )
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-12)


def test_an_incomplete_batch_is_refused_in_training_and_welcome_in_evaluation(make, draw):
    layer = make("bn", batch=4)
    x = draw((6, 6, 2, 2))
    with pytest.raises(norms.NormError, match="multiple of 4 images, the size of one statistic; got 6"):
        layer(x)
    assert layer.eval()(x).isfinite().all()


def test_what_a_layer_prints_tells_its_settings():
    layer = norms.build("bn", 6, 2, momentum=["keras:0.9", "debiased:0.3"], eps=[1e-5, 1e-3], batch=4)
    assert (
        str(layer)
        == "BatchNorm(6, lanes=2, eps=1e-05, 0.001, affine=True, momentum=0.1, debiased:0.3, batch=4)"
    )
