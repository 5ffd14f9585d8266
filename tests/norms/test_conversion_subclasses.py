"""convert and fold leave a layer alone if it may compute something else than its base class."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.ao.nn import quantized
from torch.nn import functional as F
from torch.nn.utils import parametrize, prune

from normbench import norms

from .lookalikes import BatchNormAct2d, as_of

DOUBLE = torch.float64


class BatchNormReLU(nn.BatchNorm2d):
    def forward(self, x):
        return F.relu(super().forward(x))


class GroupNormSiLU(nn.GroupNorm):
    def forward(self, x):
        return F.silu(super().forward(x))


class InstanceNormLeaky(nn.InstanceNorm2d):
    def forward(self, x):
        return F.leaky_relu(super().forward(x))


class LayerNormPlusOne(nn.LayerNorm):
    def forward(self, x):
        return F.layer_norm(x, self.normalized_shape, self.weight + 1, self.bias, self.eps)


class RMSNormPlusOne(nn.RMSNorm):
    def forward(self, x):
        return F.rms_norm(x, self.normalized_shape, self.weight + 1, self.eps)


class Halved(nn.BatchNorm2d):
    def forward(self, x):
        return 0.5 * super().forward(x)


class AlwaysBatch(nn.BatchNorm2d):
    def forward(self, x):
        return F.batch_norm(x, None, None, self.weight, self.bias, True, 0.0, self.eps)


class AlwaysRunning(nn.BatchNorm2d):
    def forward(self, x):
        return F.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
        )


class StaysInEvaluation(nn.BatchNorm2d):
    def train(self, mode=True):
        return super().train(False)


class PositiveWeight(nn.BatchNorm2d):
    @property
    def weight(self):
        return self._parameters["weight"].exp()


class Centred(nn.BatchNorm2d):
    def _check_input_dim(self, x):
        x.sub_(1)


class Called(nn.BatchNorm2d):
    def __call__(self, x):
        return -super().__call__(x)


class WithoutShift(nn.BatchNorm2d):
    bias = None


class LearnsNothing(nn.BatchNorm2d):
    momentum = property(lambda self: 0.0, lambda self, value: None)


class Mixin:
    def forward(self, x):
        return 2 * super().forward(x)


class Mixed(Mixin, nn.BatchNorm2d):
    pass


class Inherited(Halved):
    pass


class OwnInstanceStatistics(nn.InstanceNorm2d):
    def _apply_instance_norm(self, x):
        return super()._apply_instance_norm(x) + 1


def as_instance_of(kind):
    layer = nn.BatchNorm2d(6)
    layer.__class__ = kind
    return layer


def patched(name, value):
    layer = nn.BatchNorm2d(6)
    setattr(layer, name, value)
    return layer


def parametrized():
    class Doubled(nn.Module):
        def forward(self, weight):
            return 2 * weight

    layer = nn.BatchNorm2d(6)
    parametrize.register_parametrization(layer, "weight", Doubled())
    return layer


def with_child(layer):
    layer.act = nn.ReLU()  # torch's forward does not call it
    return layer


def frozen_weight():
    layer = nn.BatchNorm2d(6)
    del layer.weight
    layer.register_buffer("weight", torch.full((6,), 2.0))
    return layer


OWN = "which may compute something else"
ODD = {
    "batch norm and relu": (BatchNormReLU(6), f"BatchNormReLU has its own forward, {OWN}"),
    "group norm and silu": (GroupNormSiLU(2, 6), f"GroupNormSiLU has its own forward, {OWN}"),
    "instance norm and leaky relu": (InstanceNormLeaky(6), f"InstanceNormLeaky has its own forward, {OWN}"),
    "layer norm, weight + 1": (LayerNormPlusOne(5), f"LayerNormPlusOne has its own forward, {OWN}"),
    "rms norm, weight + 1": (RMSNormPlusOne(5), f"RMSNormPlusOne has its own forward, {OWN}"),
    "half": (Halved(6), f"Halved has its own forward, {OWN}"),
    "batch statistics always": (AlwaysBatch(6), f"AlwaysBatch has its own forward, {OWN}"),
    "running statistics always": (AlwaysRunning(6), f"AlwaysRunning has its own forward, {OWN}"),
    "train": (StaysInEvaluation(6), f"StaysInEvaluation has its own train, {OWN}"),
    "weight property": (as_instance_of(PositiveWeight), f"PositiveWeight has its own weight, {OWN}"),
    "check": (Centred(6), f"Centred has its own _check_input_dim, {OWN}"),
    "call": (Called(6), f"Called has its own __call__, {OWN}"),
    "class attribute": (as_instance_of(WithoutShift), f"WithoutShift has its own bias, {OWN}"),
    "momentum property": (LearnsNothing(6), f"LearnsNothing has its own momentum, {OWN}"),
    "mixin": (Mixed(6), f"Mixin has its own forward, {OWN}"),
    "grandchild": (Inherited(6), f"Halved has its own forward, {OWN}"),
    "private method": (
        OwnInstanceStatistics(6), f"OwnInstanceStatistics has its own _apply_instance_norm, {OWN}"
    ),
    "patched forward": (patched("forward", lambda x: x), "its forward was replaced on the instance"),
    "patched train": (patched("train", lambda mode=True: None), "its train was replaced on the instance"),
    "parametrized": (parametrized(), "its weight is parametrized"),
    "pruned": (prune.l1_unstructured(nn.BatchNorm2d(6), "weight", 1), "it has parts of its own: weight_orig"),
    "child": (with_child(nn.BatchNorm2d(6)), "it has parts of its own: act"),
    "buffer": (frozen_weight(), "it has parts of its own: weight"),
    "one buffer": (patched("running_var", None), "it has only one of running_mean and running_var"),
    "lazy": (nn.LazyBatchNorm2d(), "it waits for its first input to know its channels"),
    "lazy without tensors": (
        nn.LazyBatchNorm2d(affine=False, track_running_stats=False),
        "it waits for its first input to know its channels",
    ),
    "quantized": (quantized.BatchNorm2d(6), "BatchNorm2d is not a known class"),
    "ours, patched": (
        copy.copy(norms.build("gn", 6, group_size=3)), "its forward was replaced on the instance"
    ),
    "ours, pruned": (
        prune.l1_unstructured(norms.build("bn", 6), "weight", 1), "its weight is not a parameter"
    ),
}  # fmt: skip
ODD["ours, patched"][0].forward = lambda x: x


@pytest.mark.parametrize("kind", ODD)
def test_a_layer_that_may_compute_something_else_is_left_alone_with_its_reason(kind):
    layer, reason = ODD[kind]
    report = []
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), layer)
    norms.convert(model, "bn", report=report)
    assert model[2] is layer
    assert report[0].new == "bn"
    assert report[1].new is None and report[1].note.startswith(reason)


@pytest.mark.parametrize(
    "layer",
    [
        BatchNormReLU(6),
        Halved(6),
        AlwaysBatch(6),
        Called(6),
        as_instance_of(PositiveWeight),
        as_instance_of(WithoutShift),
        Mixed(6),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_model_with_such_a_layer_computes_the_same_after_convert_and_fold(layer):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 6, 3), layer).double()
    x = torch.randn(4, 3, 8, 8, dtype=DOUBLE)
    model(x)
    converted = norms.convert(copy.deepcopy(model), "bn")
    torch.testing.assert_close(converted(x), copy.deepcopy(model)(x), rtol=1e-12, atol=1e-12)
    model.eval(), converted.eval()
    for folded in (norms.fold(model), norms.fold(model, x)):
        torch.testing.assert_close(folded(x), model(x), rtol=1e-12, atol=1e-12)


class ActivationFirst(nn.BatchNorm2d):
    """It has the children of timm's layer but calls them before normalizing."""

    def __init__(self, channels):
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), nn.SiLU()

    def forward(self, x):
        return super().forward(self.act(self.drop(x)))


def test_fold_leaves_a_norm_whose_activation_comes_first():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), ActivationFirst(6)).double()
    x = torch.randn(4, 3, 8, 8, dtype=DOUBLE)
    model(x)
    report = []
    folded = norms.fold(model.eval(), report=report)
    torch.testing.assert_close(folded(x), model(x), rtol=0, atol=0)
    assert str(report[0]).startswith("1: ActivationFirst left alone: ActivationFirst has its own forward")


class RenamedOnly(nn.BatchNorm2d):
    """A constructor, texts and further names do not change what a layer computes."""

    def __init__(self, channels):
        super().__init__(channels, eps=1e-3)
        self.purpose = "stem"

    def extra_repr(self):
        return f"{super().extra_repr()}, {self.purpose}"

    def described(self):
        return self.purpose


def test_a_subclass_that_changes_no_method_of_its_class_is_replaced():
    x = torch.randn(4, 6, 5, 5)
    layer = RenamedOnly(6)
    new = norms.convert(nn.Sequential(copy.deepcopy(layer)), "bn")
    assert torch.equal(new(x), layer(x)) and new[0].eps == 1e-3


def test_a_subclass_of_a_layer_with_an_activation_is_left_alone_too():
    class Doubled(BatchNormAct2d):
        def forward(self, x):
            return 2 * super().forward(x)

    report = []
    norms.convert(nn.Sequential(Doubled(6, nn.ReLU()), nn.BatchNorm2d(6)), "gn", report=report)
    assert report[0].note.startswith("Doubled has its own forward")


def test_a_class_whose_forward_was_replaced_is_left_alone(monkeypatch):
    monkeypatch.setattr(nn.BatchNorm2d, "forward", lambda self, x: x)
    report = []
    norms.convert(nn.Sequential(nn.BatchNorm2d(6), nn.GroupNorm(2, 6)), "gn", report=report)
    assert str(report[0]) == "0: BatchNorm2d left alone: BatchNorm2d.forward was replaced"


def test_what_compilers_hold_is_left_alone():
    inner = nn.Sequential(nn.Conv2d(3, 6, 3), torch.compile(nn.BatchNorm2d(6)), nn.GroupNorm(2, 6))
    report = []
    norms.convert(inner, "gn", report=report)
    assert [change.new for change in report] == [None, "gn"]
    assert report[0].note == "torch.compile holds it: replace it before compiling"


@as_of("timm.layers.norm")
class SimpleNorm(nn.Module):
    def forward(self, x):
        return x / x.std(-1, keepdim=True)


class EvoNorm2dS0(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x):
        return x * torch.sigmoid(x) / x.std() * self.weight.view(1, -1, 1, 1)


class FilterResponseNormTlu2d(EvoNorm2dS0):
    pass


class FrozenBN(nn.Module):
    def __init__(self, channels):
        super().__init__()
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.register_buffer(name, torch.ones(channels))

    def forward(self, x):
        return x


class ConvNormAct(nn.Module):
    """A block of layers is no norm, whatever its name."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.act = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU()


def test_norms_of_unknown_classes_stand_in_the_report():
    model = nn.Sequential(
        ConvNormAct(), SimpleNorm(), EvoNorm2dS0(3), FilterResponseNormTlu2d(3), FrozenBN(3), nn.ReLU(),
        nn.LocalResponseNorm(2), parametrize_conv(),
    )  # fmt: skip
    report = []
    norms.convert(model, "gn", report=report)
    assert [change.name for change in report] == ["0.norm", "1", "2", "3", "4", "6"]
    assert [change.new for change in report] == ["gn"] + [None] * 5
    assert all(
        change.note.endswith("is not a known class, so what it computes is not known")
        for change in report[1:]
    )


def parametrize_conv():
    return nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 3, 1))


def test_every_known_class_of_timm_computes_the_same():
    layers = pytest.importorskip("timm.layers")
    from timm.layers import norm  # LayerNormExp2d is not exported

    from normbench.norms.surgery.known_layers import KNOWN

    for name, known in KNOWN["timm"].items():
        kind = getattr(layers, name, None) or getattr(norm, name, None)
        if kind is None or name == "SyncBatchNormAct":  # timm builds it by conversion alone
            continue
        torch.manual_seed(0)
        old = kind(12, **({"num_groups": 3} if name in ("GroupNorm", "GroupNormAct") else {}))
        for tensor in old.state_dict().values():
            if tensor.is_floating_point():
                nn.init.uniform_(tensor, 0.5, 1.5)
        x = torch.randn(4, 12, 5, 5) if known.axis == 1 else torch.randn(4, 5, 5, 12)
        new = norms.convert(nn.Sequential(copy.deepcopy(old)), "frozen" if known.frozen else known.key)
        for _ in range(2):
            torch.testing.assert_close(new(x.clone()), old(x.clone()), rtol=1e-5, atol=1e-5)
            new.eval(), old.eval()


def test_norms_of_timm_without_a_method_here_stand_in_the_report():
    layers = pytest.importorskip("timm.layers")
    named = [
        "SimpleNorm", "SimpleNorm2d", "EvoNorm2dB0", "EvoNorm2dS0", "EvoNorm2dS0a", "FilterResponseNormTlu2d",
        "FilterResponseNormAct2d", "SplitBatchNorm2d", "InplaceAbn",
    ]  # fmt: skip
    model = nn.Sequential(
        *(getattr(layers, name)(32) for name in named if hasattr(layers, name)), nn.BatchNorm2d(32)
    )
    report = []
    norms.convert(model, "gn", report=report)
    assert [change.old for change in report] == [*(n for n in named if hasattr(layers, n)), "BatchNorm2d"]
    assert [change.new for change in report] == [None] * (len(report) - 1) + ["gn"]


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
def test_weight_normed_norms_are_left_alone():
    layer = nn.BatchNorm2d(6)
    nn.utils.weight_norm(layer)
    report = []
    norms.convert(nn.Sequential(layer, nn.BatchNorm2d(6)), "bn", report=report)
    assert report[0].note == "it has parts of its own: weight_g, weight_v"
