"""convert: replacing the norms of a model from elsewhere."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision.models.convnext import LayerNorm2d
from torchvision.ops import FrozenBatchNorm2d, Permute

from normbench import norms
from normbench.errors import InputError
from normbench.norms.surgery.last_axis import LastAxis

from .conftest import fitting
from .lookalikes import BatchNormAct2d


def model():
    """Every kind of norm that torch has; the channels are axis 1 first, then the last axis."""
    return nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(),
        nn.Sequential(nn.Conv2d(6, 12, 3), nn.GroupNorm(4, 12)), nn.ReLU(),
        nn.InstanceNorm2d(12, affine=True), Permute([0, 2, 3, 1]), nn.LayerNorm(12), nn.Linear(12, 6),
        nn.RMSNorm(6),
    )  # fmt: skip


def images(dtype=torch.float32, count=4):
    return torch.randn(count, 3, 9, 9, generator=torch.Generator().manual_seed(1), dtype=dtype)


def found(converted):
    return [layer for layer in converted.modules() if isinstance(layer, norms.Norm)]


def test_every_method_can_replace_the_norms_of_a_model_and_be_trained(key):
    report = []
    converted = norms.convert(model(), key, report=report, **fitting(key))
    assert [(layer.key, layer.channels) for layer in found(converted)] == [
        (key, channels) for channels in (6, 12, 12, 12, 6)
    ]
    assert [change.name for change in report] == ["1", "3.1", "5", "7", "9"]
    assert [layer.site for layer in found(converted)] == ["1", "3.1", "5", "7", "9"]
    assert {change.new for change in report} == {key}
    optimizer = torch.optim.SGD(converted.parameters(), lr=0.01)
    for _ in range(2):
        converted(images()).square().mean().backward()
        optimizer.step()
    assert all(parameter.isfinite().all() for parameter in converted.parameters())
    assert converted.eval()(images()).shape == (4, 5, 5, 6)


@pytest.mark.parametrize(
    ("layer", "key", "shape"),
    [
        (nn.BatchNorm1d(6, momentum=0.3, eps=0.1), "bn", (4, 6)),
        (nn.BatchNorm2d(6, momentum=None, affine=False), "bn", (4, 6, 5, 5)),
        (nn.BatchNorm3d(6, track_running_stats=False), "bn", (4, 6, 2, 3, 2)),
        (nn.SyncBatchNorm(6, eps=0.1), "sync", (4, 6, 5, 5)),
        (nn.InstanceNorm2d(6, eps=0.1), "in", (4, 6, 5, 5)),
        (nn.GroupNorm(3, 6, eps=0.1), "gn", (4, 6, 5, 5)),
        (nn.LayerNorm(6, eps=0.1), "ln_c", (4, 7, 6)),
        (nn.LayerNorm(24, bias=False), "ln_c", (4, 5, 5, 24)),
        (nn.LayerNorm(24, elementwise_affine=False), "ln_c", (4, 24)),
        (LayerNorm2d(24, eps=0.1), "ln_c", (4, 24, 5, 5)),
        (nn.RMSNorm(6), "rms", (4, 7, 6)),
        (FrozenBatchNorm2d(6, eps=0.1), "frozen", (4, 6, 5, 5)),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_the_same_method_computes_the_same_in_training_and_in_evaluation(layer, key, shape):
    for tensor in layer.state_dict().values():
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.5, 1.5)
    before = nn.Sequential(layer)
    after = norms.convert(copy.deepcopy(before), key)
    assert len(list(after.parameters())) == len(list(before.parameters())) or key == "frozen"
    for step in range(3):
        x = torch.randn(shape, generator=torch.Generator().manual_seed(step))
        torch.testing.assert_close(after(x), before(x), rtol=0, atol=1e-6)
    before.eval(), after.eval()
    torch.testing.assert_close(after(x), before(x), rtol=0, atol=1e-6)


def test_batch_and_layer_norms_stay_bit_identical():
    before = nn.Sequential(nn.Conv2d(3, 24, 3), nn.BatchNorm2d(24), Permute([0, 2, 3, 1]), nn.LayerNorm(24))
    after = copy.deepcopy(before)
    norms.convert(norms.convert(after, "bn", sites="1"), "ln_c", sites="3")
    assert [layer.key for layer in found(after)] == ["bn", "ln_c"]
    assert torch.equal(after(images()), before(images()))
    assert torch.equal(after.eval()(images()), before.eval()(images()))


def test_scale_and_shift_are_carried_over_if_both_layers_have_them():
    zeroed = nn.Sequential(nn.BatchNorm2d(8))
    nn.init.zeros_(zeroed[0].weight)
    zeroed[0].bias.requires_grad_(False)
    converted = norms.convert(copy.deepcopy(zeroed), "gn")[0]
    assert converted.weight.eq(0).all()
    assert converted.weight.requires_grad and not converted.bias.requires_grad
    assert norms.convert(nn.Sequential(nn.BatchNorm2d(8)), "gn", affine=False)[0].weight is None


def test_statistics_are_carried_over_between_batch_norms_only():
    old = nn.Sequential(nn.BatchNorm2d(6))
    old(images().repeat(1, 2, 1, 1))
    for key in ("bn", "ghost", "sync", "bcn"):
        new = norms.convert(copy.deepcopy(old), key, **fitting(key))[0]
        assert torch.equal(new.running_var, old[0].running_var)
        assert new.num_batches_tracked == 1
    half = norms.convert(copy.deepcopy(old), "power")[
        0
    ]  # it keeps another statistic: its count must be its own
    assert half.num_batches_tracked == 0
    instance = nn.Sequential(nn.InstanceNorm2d(6, track_running_stats=True))
    instance(images().repeat(1, 2, 1, 1))
    assert norms.convert(instance, "bn")[0].running_mean.eq(0).all()


def test_only_the_same_method_keeps_settings_and_given_ones_win():
    def converted(key, **args):
        return norms.convert(nn.Sequential(nn.BatchNorm2d(6, momentum=0.3, eps=0.1)), key, **args)[0]

    assert (converted("bn").momenta[0].canonical, converted("bn").eps) == (0.3, 0.1)
    assert (converted("bn", momentum=0.5).momenta[0].canonical, converted("bn", eps=0.2).eps) == (0.5, 0.2)
    assert converted("ghost", ghost_size=2).momenta[0].canonical == 0.3
    assert converted("gn").eps == 1e-5
    assert converted("brn").momenta == norms.build("brn", 6).momenta  # its training reads running statistics
    groups = nn.Sequential(nn.GroupNorm(2, 6))
    assert norms.convert(copy.deepcopy(groups), "gn")[0].num_groups == 2
    assert norms.convert(copy.deepcopy(groups), "gn", group_size=1)[0].num_groups == 6


def test_the_report_has_a_line_for_every_layer():
    report = []
    mixed = nn.Sequential(
        nn.BatchNorm2d(6, momentum=None), nn.LayerNorm([6, 9, 9]), nn.LazyBatchNorm2d(), nn.GroupNorm(3, 6),
        norms.ConditionalBatchNorm(6, features=2),
    )  # fmt: skip
    norms.convert(mixed, "bn", sites="0", report=report)
    assert [str(change) for change in report] == [
        "0: BatchNorm2d → bn, kept γ, β, statistics, momentum=cumulative, eps=1e-05",
        "1: LayerNorm left alone: it normalizes over several axes, and its γ and β are one per element",
        "2: LazyBatchNorm2d left alone: it waits for its first input to know its channels",
        "3: GroupNorm left alone: it is not among the sites",
        "4: ConditionalBatchNorm left alone: it is no method of the catalogue",
    ]


def test_sites_are_paths_or_patterns():
    assert [change.name for change in _report(sites="3.*") if change.new] == ["3.1"]
    assert [change.name for change in _report(sites=["1", "[57]"]) if change.new] == ["1", "5", "7"]
    with pytest.raises(InputError, match=r"unknown site '3'; nearest: 3.1 .*sites takes paths or patterns"):
        norms.convert(model(), "gn", sites=["1", "3"])


def _report(**args):
    report = []
    norms.convert(model(), "gn", report=report, **args)
    return report


def test_a_layer_used_twice_stays_one_layer():
    shared = nn.BatchNorm2d(8)
    report = []
    both = nn.ModuleList([nn.Sequential(shared), nn.Sequential(shared)])
    converted = norms.convert(both, "in", report=report)
    assert converted[0][0] is converted[1][0]
    assert [change.name for change in report] == ["0.0"]


def test_layers_of_this_package_are_replaced_too_at_any_number_of_lanes():
    converted = norms.convert(norms.convert(model(), "gn", group_size=3), "gn", group_size=2)
    assert [layer.num_groups for layer in found(converted)] == [3, 6, 6, 6, 3]
    assert isinstance(converted[7], LastAxis) and isinstance(converted[7].norm, norms.Norm)
    stack = nn.Sequential(norms.build("bn", 6, 2, momentum=[0.1, 0.2], eps=[1e-5, 0.1]).double())
    stack(images(torch.float64).repeat(1, 4, 1, 1))
    wanted = stack.eval()(images(torch.float64).repeat(1, 4, 1, 1))
    again = norms.convert(stack, "bn")[0]
    assert (again.lanes, again.lane_eps) == (2, (1e-5, 0.1))
    torch.testing.assert_close(again(images(torch.float64).repeat(1, 4, 1, 1)), wanted, rtol=0, atol=1e-14)


def test_device_dtype_and_mode_follow_the_layer_replaced():
    mixed = nn.Sequential(
        nn.BatchNorm2d(6).double(), nn.BatchNorm2d(6).half().eval(), nn.BatchNorm2d(6, device="meta"),
        nn.InstanceNorm2d(6).eval(),
    )  # fmt: skip
    wide, half, meta, bare = norms.convert(mixed, "bn")
    assert wide.running_mean.dtype == wide.weight.dtype == torch.float64
    assert half.running_mean.dtype == torch.float32  # as layers of this package are in a model.half()
    assert meta.running_mean.is_meta and meta.weight.is_meta
    assert [layer.training for layer in (wide, half, meta, bare)] == [True, False, True, False]
    assert bare.weight.dtype == torch.float64  # a layer without tensors: as its model begins
    assert half(torch.randn(2, 6, 3, 3).half()).dtype == torch.float16


def test_a_failing_conversion_names_the_layer_and_changes_nothing():
    uneven = nn.Sequential(nn.BatchNorm2d(8), nn.Sequential(nn.Conv2d(8, 9, 3), nn.BatchNorm2d(9)))
    report = []
    with pytest.raises(norms.NormError, match=r"layer 1\.1: gn: group_size must divide the channels"):
        norms.convert(uneven, "gn", group_size=8, report=report)
    with pytest.raises(InputError, match="unknown norm 'gm'; nearest: gn"):
        norms.convert(uneven, "gm")
    with pytest.raises(InputError, match="unknown argument of norm gn 'groups'"):
        norms.convert(uneven, "gn", groups=2)
    assert isinstance(uneven[0], nn.BatchNorm2d)
    assert isinstance(uneven[1][1], nn.BatchNorm2d)
    assert report == []


@pytest.mark.parametrize(
    ("bare", "given"),
    [
        (nn.ReLU(), "a ReLU with none"),
        (nn.BatchNorm2d(4), "a BatchNorm2d"),
        (
            nn.Sequential(nn.LayerNorm([4, 4])),
            r"a Sequential with none that can be replaced \(0: LayerNorm left alone: .* one per element\)",
        ),
    ],
)
def test_a_model_without_a_norm_inside_is_refused(bare, given):
    with pytest.raises(InputError, match=f"convert needs a model that holds .* norm layers; got {given}$"):
        norms.convert(bare, "gn")


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_transformer_layers_of_torch_use_the_new_norm():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2, norm=nn.LayerNorm(8)).eval()
    x, padding = torch.randn(3, 5, 8), torch.tensor([[False] * 5] * 2 + [[False] * 3 + [True] * 2])
    with torch.no_grad():
        wanted = encoder(x, src_key_padding_mask=padding)
        same = norms.convert(copy.deepcopy(encoder), "ln_c")(x, src_key_padding_mask=padding)
        other = norms.convert(copy.deepcopy(encoder), "rms")(x, src_key_padding_mask=padding)
    seen = ~padding
    torch.testing.assert_close(same[seen], wanted[seen], rtol=0, atol=1e-5)
    assert (other[seen] - wanted[seen]).abs().max() > 0.1


class Unusual(nn.Module):
    """torch.fx cannot trace it, and its layers are called in another order than they are written."""

    def __init__(self):
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Identity(), nn.ReLU())
        self.late = nn.BatchNorm2d(6)
        self.relu = nn.ReLU()

    def forward(self, x):
        y = self.block(x) if x.mean() > -9 else x
        y = self.late(y)
        return self.relu(y) + y


class Straight(Unusual):
    def forward(self, x):
        y = self.late(self.block(x))
        return F.relu(y)


@pytest.mark.parametrize(
    ("kind", "late"),
    [(Unusual, "no single layer reads it alone"), (Straight, "no single layer reads it alone")],
)
def test_a_method_with_an_activation_replaces_the_relu_that_alone_reads_it(kind, late):
    report = []
    converted = norms.convert(kind(), "frn", report=report)
    assert [change.note for change in report] == [
        "replaces block.3, too",
        f"without its activation: {late}",
    ]
    assert type(converted.block[3]) is nn.Identity and type(converted.relu) is nn.ReLU
    assert converted.block[1].tau is not None and converted.late.tau is None
    converted(images())


@pytest.mark.parametrize("act", [nn.ReLU6, nn.SiLU])
def test_activations_other_than_relu_stay(act):
    report = []
    converted = norms.convert(nn.Sequential(nn.BatchNorm2d(6), act()), "evonorm_s0", report=report)
    assert type(converted[1]) is act
    assert str(report[0]).endswith(f"without its activation: {act.__name__} follows")
    assert (
        norms.convert(nn.Sequential(nn.BatchNorm2d(6), act()), "evonorm_s0", activated=True)[0].v is not None
    )


def test_a_method_that_looks_at_the_layer_before_it_is_shown_that_layer(monkeypatch):
    shown = []
    monkeypatch.setattr(
        norms.entry("bn").layer, "follow", lambda self, layer: shown.append((self.site, layer))
    )
    conv, linear = nn.Conv2d(3, 6, 3), nn.Linear(6, 6)
    net = nn.Sequential(
        conv, nn.BatchNorm2d(6), nn.ReLU(), nn.BatchNorm2d(6), nn.ConvTranspose2d(6, 6, 3), nn.BatchNorm2d(6),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), linear, nn.BatchNorm1d(6),
    )  # fmt: skip
    report = []
    norms.convert(net, "bn", report=report)
    assert [layer for _, layer in shown] == [conv, None, None, linear]
    assert [change.note for change in report] == [
        "fed by 0", "no layer feeds it alone", "no layer feeds it alone", "fed by 8",
    ]  # fmt: skip


def test_an_activation_inside_a_layer_is_not_lost():
    before = nn.Sequential(nn.Conv2d(3, 6, 3), BatchNormAct2d(6, nn.SiLU()))
    after = norms.convert(copy.deepcopy(before), "bn")
    assert torch.equal(after(images()), before(images()))
    assert torch.equal(after.eval()(images()), before.eval()(images()))
    taken = norms.convert(nn.Sequential(BatchNormAct2d(6, nn.ReLU())), "frn")
    assert isinstance(taken[0], norms.Norm) and taken[0].tau is not None
    kept = norms.convert(copy.deepcopy(before), "frn")[1]
    assert type(kept.act) is nn.SiLU and kept.norm.tau is None


def test_a_layer_with_unknown_parts_is_left_alone():
    strange = BatchNormAct2d(6, nn.ReLU())
    strange.attention = nn.Linear(6, 6)
    report = []
    norms.convert(nn.Sequential(strange, nn.BatchNorm2d(6)), "gn", report=report)
    assert str(report[0]) == "0: BatchNormAct2d left alone: it has parts of its own: attention"
