"""Decorrelated batch norm, and its common parts with iternorm: groups, covariances, running matrices."""

from __future__ import annotations

import pytest
import torch
from scipy import linalg

from normbench import norms
from normbench.norms.methods.dbn import InverseRoot

WHITENING = ("dbn", "iternorm")


def rows(x, channels=slice(None)):
    """(channels, values)."""
    return x[:, channels].transpose(0, 1).flatten(1)


def covariance(x, channels=slice(None)):
    return torch.atleast_2d(torch.cov(rows(x, channels), correction=0))


def correlated(draw, shape, seed=0):
    """Channels that are mixtures of each other."""
    mixing = draw((shape[1], shape[1]), 99)
    return torch.einsum("ij,nj...->ni...", mixing, draw(shape, seed))


def same(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


@pytest.mark.parametrize("size", [1, 2, 3, 6])
def test_the_output_of_every_group_and_worker_has_the_identity_as_covariance(make, draw, images, size):
    layer = make("dbn", group_size=size, eps=1e-13, affine=False, batch=2)
    y = layer(correlated(draw, images))
    for worker in y.split(2):
        same(rows(worker).mean(1), torch.zeros(6, dtype=torch.float64), 1e-9)
        for start in range(0, 6, size):
            same(covariance(worker, slice(start, start + size)), torch.eye(size, dtype=torch.float64), 1e-9)


def test_the_whitening_matrix_is_scipys_inverse_square_root(make, draw, images):
    x = correlated(draw, images)
    layer = make("dbn", momentum=1.0, eps=0.1)
    layer(x)
    root = linalg.sqrtm(covariance(x) + 0.1 * torch.eye(6, dtype=torch.float64))
    same(layer.running_whitening[0], torch.from_numpy(linalg.inv(root)), 1e-12)


@pytest.mark.parametrize("key", WHITENING)
def test_rotating_the_channels_rotates_the_output(make, draw, images, key):
    layer, x = make(key, affine=False), correlated(draw, images)
    rotation = torch.linalg.qr(draw((6, 6), 5))[0]
    turned = torch.einsum("ij,njhw->nihw", rotation, x)
    same(layer(turned), torch.einsum("ij,njhw->nihw", rotation, layer(x)), 1e-9)


@pytest.mark.parametrize("key", WHITENING)
@pytest.mark.parametrize("eps", [1e-5, 0.1])
def test_groups_of_one_channel_are_batch_norm_in_training(make, draw, shapes, key, eps):
    layer, bn = make(key, group_size=1, eps=eps), make("bn", eps=eps)
    for shape in shapes(layer):
        x, upstream = draw(shape).requires_grad_(), draw(shape, 1)
        ours, theirs = (
            (y, *torch.autograd.grad(y, [x, *norm.parameters()], upstream))
            for norm, y in ((layer, layer(x)), (bn, bn(x)))
        )
        for a, b in zip(ours, theirs, strict=True):
            same(a, b, 1e-11)
    same(layer.running_mean, bn.running_mean)


def test_evaluation_averages_the_whitening_matrices_and_not_the_covariances(make, draw, images):
    layer, x = make("dbn", group_size=1, momentum="cumulative", eps=1e-12, affine=False), draw(images)
    layer(x)
    layer(3 * x)
    deviation = rows(x).std(1, correction=0)
    same(layer.running_whitening.flatten(), (1 / deviation + 1 / (3 * deviation)) / 2, 1e-9)


@pytest.mark.parametrize("key", WHITENING)
def test_evaluation_after_one_batch_of_full_weight_is_the_training_output(make, draw, images, key):
    layer, x = make(key, 2, momentum=1.0, group_size=3), draw(images, lanes=2)
    same(layer(x), layer.eval()(x))


@pytest.mark.parametrize("key", WHITENING)
def test_running_statistics_take_one_step_towards_the_mean_over_workers(make, draw, images, key):
    together, x = make(key, batch=2, momentum=0.25, group_size=3), draw(images)
    together(x)
    alone = []
    for part in x.split(2):
        layer = make(key, momentum=1.0, group_size=3)
        layer(part)
        alone.append((layer.running_mean, layer.running_whitening))
    mean, whitening = (torch.stack(parts).mean(0) for parts in zip(*alone, strict=True))
    same(together.running_mean, 0.25 * mean)
    same(together.running_whitening, 0.25 * whitening + 0.75 * torch.eye(3))
    assert together.num_batches_tracked == 1


@pytest.mark.parametrize("key", WHITENING)
@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e300])
def test_what_happens_in_one_group_leaves_the_others_bit_identical(make, draw, images, key, value):
    layer, x = make(key, group_size=2), draw(images)
    disturbed = x.clone()
    disturbed[1, 3] = value
    assert torch.equal(layer(disturbed)[:, [0, 1, 4, 5]], layer(x)[:, [0, 1, 4, 5]])


@pytest.mark.parametrize("key", WHITENING)
@pytest.mark.parametrize("affine", [True, False, "weight", "bias"])
@pytest.mark.parametrize("training", [True, False])
def test_scale_and_shift_are_applied_to_the_whitened_channels(make, draw, images, key, affine, training):
    layer, plain = make(key, affine=affine, batch=2), make(key, affine=False, batch=2)
    same(
        layer.train(training)(draw(images)),
        layer.scale_shift(plain.train(training)(draw(images))),
    )


SPECTRA = {
    "all equal": [1.0, 1.0, 1.0, 1.0],
    "two pairs": [2.0, 2.0, 0.5, 0.5],
    "nearly equal": [1.0, 1.0 + 1e-13, 1.0 + 1e-9, 1.0 + 1e-6],
    "two missing": [3.0, 1.0, 0.0, 0.0],
}


@pytest.mark.parametrize("spectrum", SPECTRA)
def test_the_gradient_is_exact_where_eigenvalues_are_equal(make, draw, spectrum):
    values = torch.tensor(SPECTRA[spectrum], dtype=torch.float64)
    centred = draw((4, 24)) - draw((4, 24)).mean(1, keepdim=True)
    white = torch.linalg.qr(centred.T)[0].T * 24**0.5  # covariance exactly I, up to rounding
    turned = torch.linalg.qr(draw((4, 4), 7))[0] @ (values.sqrt().unsqueeze(1) * white)
    x = turned.view(4, 4, 2, 3).transpose(0, 1).contiguous().requires_grad_()
    layer = make("dbn", channels=4, eps=0.01)
    same(torch.linalg.eigvalsh(covariance(x.detach())), values.sort()[0], 1e-12)
    assert torch.autograd.gradcheck(layer, (x,))


def test_the_inverse_root_of_a_matrix_that_is_not_finite_is_nan_and_spares_the_others(draw):
    good = covariance(draw((8, 6, 4))).repeat(3, 1, 1)
    bad = good.clone()
    bad[1, 0, 0] = torch.nan
    root = InverseRoot.apply(bad, 1e-5)
    assert root[1].isnan().all()
    assert torch.equal(root[[0, 2]], InverseRoot.apply(good, 1e-5)[[0, 2]])


@pytest.mark.parametrize("key", WHITENING)
def test_channels_that_depend_on_each_other_stay_finite_in_fp32(make, draw, images, key):
    layer = make(key, dtype=torch.float32)
    x = draw(images, dtype=torch.float32)
    x = torch.cat([x[:, :2], x[:, :2], 1e-4 * x[:, :1], 0 * x[:, :1]], 1).requires_grad_()
    y = layer(x)
    (grad,) = torch.autograd.grad(y.square().sum(), x)
    assert y.isfinite().all()
    assert grad.isfinite().all()


@pytest.mark.parametrize("key", WHITENING)
@pytest.mark.parametrize(("channels", "size"), [(1, 1), (6, 6), (16, 16), (20, 10), (64, 16), (17, 1)])
def test_the_default_group_is_the_largest_divisor_up_to_sixteen(key, channels, size):
    layer = norms.build(key, channels, 3)
    assert layer.group_size == size
    assert layer.running_whitening.shape == (3 * channels // size, size, size)


@pytest.mark.parametrize("key", WHITENING)
def test_a_group_size_that_does_not_divide_the_channels_is_refused(key):
    with pytest.raises(norms.NormError) as error:
        norms.build(key, 6, group_size=4)
    assert str(error.value) == (
        f"{key}: group_size must divide the channels; got group_size=4 for 6 channels. "
        "Set group_size to a divisor of 6 (1, 2, 3, 6), or leave it out"
    )
    with pytest.raises(norms.NormError, match=f"{key}: group_size must be a whole number ≥ 1; got 0"):
        norms.build(key, 6, group_size=0)


def test_a_covariance_of_fewer_than_twice_as_many_values_as_channels_is_refused():
    layer = norms.build("dbn", 6, 2)
    layer.check((3, 12, 2, 2))
    with pytest.raises(norms.NormError) as error:
        layer.check((11, 12))
    assert str(error.value) == (
        "dbn: a covariance of 6 channels must average at least 12 values; got 11. Use a larger batch, "
        "group_size ≤ 5, iternorm, or leave this layer out"
    )
    norms.build("dbn", 6, 2, group_size=3).check((11, 12))
    with pytest.raises(norms.NormError, match="at least 12 values; got 8"):
        norms.build("dbn", 6, batch=2).check((4, 6, 2, 2))


@pytest.mark.parametrize("key", WHITENING)
def test_a_statistic_of_one_value_is_refused(key):
    layer = norms.build(key, 6, group_size=1, batch=1)
    layer.check((4, 6, 1, 2))
    with pytest.raises(norms.NormError, match="1 image per statistic on a map of 1 position gives 1; use"):
        layer.check((4, 6))


def test_iternorm_takes_fewer_values_than_channels():
    norms.build("iternorm", 16).check((2, 16))


@pytest.mark.parametrize("key", WHITENING)
def test_without_tracking_evaluation_uses_the_batch_and_nothing_is_kept(make, draw, images, key):
    layer = make(key, track=False)
    assert set(layer.state_dict()) == {"weight", "bias"}
    assert torch.equal(layer(draw(images)), layer.eval()(draw(images)))


@pytest.mark.parametrize("key", [*WHITENING, "mixture", "mode"])
@pytest.mark.parametrize("training", [True, False])
def test_the_output_lies_in_memory_as_the_input_does(make, draw, images, key, training):
    layer = make(key).train(training)
    assert layer(draw(images)).is_contiguous()
    innermost = torch.channels_last
    assert layer(draw(images).to(memory_format=innermost)).is_contiguous(memory_format=innermost)


def test_what_a_layer_prints_tells_the_group_size_in_effect():
    assert str(norms.build("dbn", 20, eps=1e-3)) == (
        "DecorrelatedBatchNorm(20, lanes=1, eps=0.001, affine=True, momentum=0.1, batch=None, group_size=10)"
    )
