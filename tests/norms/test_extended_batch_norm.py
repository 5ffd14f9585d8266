"""Extended batch norm: one deviation for all channels, from the statistics of batch norm."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from normbench import norms


def same(a, b, tolerance=1e-12):
    torch.testing.assert_close(a, b, rtol=0, atol=tolerance)


@pytest.mark.parametrize("variance", ["biased", "unbiased"])
@pytest.mark.parametrize("batch", [None, 2])
def test_with_one_channel_it_is_batch_norm(make, draw, variance, batch):
    ebn, bn = (make(key, channels=1, variance=variance, batch=batch) for key in ("ebn", "bn"))
    for seed in range(3):
        same(ebn(draw((4, 1, 5, 4), seed)), bn(draw((4, 1, 5, 4), seed)))
    same(ebn.eval()(draw((4, 1, 5, 4), 9)), bn.eval()(draw((4, 1, 5, 4), 9)))
    assert ebn.state_dict().keys() == bn.state_dict().keys()


def test_its_running_statistics_are_those_of_batch_norm(make, draw, images):
    ebn, bn = make("ebn"), make("bn")
    for seed in range(3):
        ebn(draw(images, seed)), bn(draw(images, seed))
    for name, tensor in bn.state_dict().items():
        same(ebn.state_dict()[name], tensor)


def test_all_channels_share_one_gain_and_have_means_of_their_own(make, draw, images):
    y = make("ebn", affine=False)(100 * draw(images) * torch.arange(1, 7).double().view(1, 6, 1, 1))
    same(y.mean((0, 2, 3)), torch.zeros(6, dtype=torch.float64))
    deviations = y.transpose(0, 1).flatten(1).std(1, correction=0)
    assert deviations.max() / deviations.min() > 3


def test_one_batch_with_full_weight_and_biased_variance_evaluates_as_it_trained(make, draw, images):
    layer = make("ebn", momentum=1.0, variance="biased")
    trained = layer(draw(images))
    same(layer.eval()(draw(images)), trained)


def test_a_trained_batch_norm_is_converted_with_its_statistics_and_back(draw, images):
    model = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.BatchNorm2d(6)).double()
    for seed in range(3):
        model(draw(images, seed))
    bn = copy.deepcopy(model[1]).eval()
    norms.convert(model, "ebn")
    same(model[1].running_var, bn.running_var)
    norms.convert(model, "bn")
    same(model.eval()[1](draw(images)), bn(draw(images)))


def test_fold_is_exact_backward_and_forward(draw):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), norms.build("ebn", 6), nn.ReLU(), norms.build("ebn", 6), nn.Conv2d(6, 4, 1)
    ).double()
    for seed in range(3):
        model(draw((4, 3, 8, 8), seed))
    report = []
    folded = norms.fold(model.eval(), report=report)
    x = draw((4, 3, 8, 8), 9)
    same(folded(x), model(x))
    assert [str(change) for change in report] == [
        "1: ExtendedBatchNorm → folded into 0", "3: ExtendedBatchNorm → folded into 4",
    ]  # fmt: skip
