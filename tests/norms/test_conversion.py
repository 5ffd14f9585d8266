"""Swapping the norms of a model built elsewhere."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from normbench import norms
from normbench.errors import InputError


def model():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(),
        nn.Sequential(nn.Conv2d(8, 16, 3), nn.GroupNorm(4, 16)), nn.ReLU(),
        nn.InstanceNorm2d(16, affine=True), nn.Flatten(), nn.Linear(16 * 16, 10), nn.LayerNorm(10),
    )  # fmt: skip


def test_every_norm_can_take_the_place_of_those_of_a_model(key):
    converted = norms.convert(model(), key, **({"ghost_size": 2} if key == "ghost" else {}))
    layers = [layer for layer in converted.modules() if isinstance(layer, norms.Norm)]
    assert [(layer.key, layer.channels) for layer in layers] == [(key, 8), (key, 16), (key, 16)]
    assert converted(torch.randn(4, 3, 8, 8)).shape == (4, 10)
    assert isinstance(converted[-1], nn.LayerNorm)


def test_converting_to_batch_norm_changes_nothing_but_the_class():
    before = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).double()
    nn.init.uniform_(before[1].weight)
    before(torch.randn(4, 3, 8, 8, dtype=torch.float64))
    before.eval()
    x = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    wanted = before(x)
    after = norms.convert(before, "bn")
    assert isinstance(after[1], norms.Norm)
    assert torch.equal(after(x), wanted)


def test_scale_and_shift_are_carried_over_where_both_layers_have_them():
    zeroed = nn.Sequential(nn.BatchNorm2d(8))
    nn.init.zeros_(zeroed[0].weight)
    assert norms.convert(zeroed, "gn")[0].weight.eq(0).all()
    assert norms.convert(nn.Sequential(nn.BatchNorm2d(8)), "gn", affine=False)[0].weight is None


def test_a_layer_used_twice_stays_one_layer():
    shared = nn.BatchNorm2d(8)
    converted = norms.convert(nn.ModuleList([nn.Sequential(shared), nn.Sequential(shared)]), "in")
    assert converted[0][0] is converted[1][0]


def test_layers_of_this_package_are_replaced_too():
    converted = norms.convert(norms.convert(model(), "gn", group_size=4), "gn", group_size=2)
    assert converted[1].num_groups == 4


def test_a_failing_conversion_names_the_layer_and_replaces_nothing():
    uneven = nn.Sequential(nn.BatchNorm2d(8), nn.Sequential(nn.Conv2d(8, 9, 3), nn.BatchNorm2d(9)))
    with pytest.raises(norms.NormError, match=r"layer 1\.1: gn: group_size must divide the channels"):
        norms.convert(uneven, "gn", group_size=8)
    with pytest.raises(InputError, match="unknown norm 'gm'; nearest: gn"):
        norms.convert(uneven, "gm")
    assert isinstance(uneven[0], nn.BatchNorm2d)
    assert isinstance(uneven[1][1], nn.BatchNorm2d)


@pytest.mark.parametrize(
    ("bare", "given"), [(nn.ReLU(), "a ReLU with none"), (nn.BatchNorm2d(4), "a BatchNorm2d")]
)
def test_a_model_without_a_norm_inside_is_refused(bare, given):
    with pytest.raises(InputError, match=f"convert needs a model that holds .* norm layers; got {given}$"):
        norms.convert(bare, "gn")
