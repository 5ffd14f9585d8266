"""fold across other layers, forward into several readers, and its refusals."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import prune
from torchvision import models

from normbench import norms
from normbench.errors import InputError

from .lookalikes import BatchNormAct2d
from .test_folding import DOUBLE, draw, folds, trained


class Readers(nn.Module):
    """A pre-activation block whose norm feeds two convolutions and, if asked for, something else."""

    def __init__(self, padding=0, extra=False):
        super().__init__()
        self.norm, self.extra = nn.BatchNorm2d(4), extra
        self.main, self.short = nn.Conv2d(4, 6, 1, padding=padding), nn.Conv2d(4, 6, 1, bias=False)

    def forward(self, x):
        y = self.norm(x)
        out = self.main(y) + self.short(y)
        return out + y.mean() if self.extra else out


def test_a_norm_becomes_part_of_all_layers_that_read_it():
    x = draw(2, 4, 6, 6)
    assert folds(trained(Readers()), x) == ["norm: BatchNorm2d → folded into main and short"]
    (line,) = folds(trained(Readers(extra=True)), x)
    assert line == "norm: BatchNorm2d left alone: the model's input feeds it, and mean reads it"


def test_if_one_of_several_readers_cannot_take_it_none_does():
    model = trained(Readers())
    model.main.padding = (1, 1)
    model.short.padding = (1, 1)
    (line,) = folds(model, draw(2, 4, 6, 6))
    assert line.endswith("main reads it and pads with zeros, which must not be shifted")


@pytest.mark.parametrize("layer", [nn.Conv2d(4, 6, 3, padding=1), nn.ConvTranspose2d(4, 6, 3, stride=2)])
def test_a_norm_without_shift_is_folded_into_a_layer_that_pads(layer):
    model = trained(nn.Sequential(nn.BatchNorm2d(4), copy.deepcopy(layer)))
    nn.init.zeros_(model[0].bias)
    model[0].running_mean.zero_()
    assert folds(model, draw(2, 4, 6, 6)) == ["0: BatchNorm2d → folded into 1"]


BETWEEN = {
    "dropout": (nn.Dropout(), "before"),
    "average": (nn.AvgPool2d(2), "before"),
    "average with a border": (nn.AvgPool2d(3, 2, padding=1, count_include_pad=False), "before"),
    "average, ceil": (nn.AvgPool2d(2, ceil_mode=True), "before"),
    "adaptive average": (nn.AdaptiveAvgPool2d(2), "before"),
    "upsampling": (nn.Upsample(scale_factor=2, mode="bilinear"), "before"),
    "reflection": (nn.ReflectionPad2d(1), "before"),
    "maximum": (nn.MaxPool2d(3, 2, padding=1), "before"),
    "zeros averaged": (nn.AvgPool2d(3, 2, padding=1), None),
    "divisor": (nn.AvgPool2d(2, divisor_override=3), None),
    "zeros": (nn.ZeroPad2d(1), None),
    "activation": (nn.ReLU(), None),
    "squares": (nn.LPPool2d(2, 2), None),
}


@pytest.mark.parametrize("kind", BETWEEN)
def test_layers_between_are_passed_only_if_that_is_exact(kind):
    between, side = BETWEEN[kind]
    backward = trained(nn.Sequential(nn.Conv2d(3, 4, 3), copy.deepcopy(between), nn.BatchNorm2d(4)))
    forward = trained(nn.Sequential(nn.BatchNorm2d(3), copy.deepcopy(between), nn.Conv2d(3, 4, 1)))
    for model, into in (
        (backward, "2: BatchNorm2d → folded into 0"),
        (forward, "0: BatchNorm2d → folded into 2"),
    ):
        for trace in (None, draw(2, 3, 9, 9)):
            (line,) = folds(model, draw(2, 3, 9, 9), trace)
            assert (line == into) == (side is not None)
            assert side is not None or f"1 ({type(between).__name__})" in line


def test_a_negative_scale_does_not_pass_a_maximum():
    model = trained(nn.Sequential(nn.Conv2d(3, 4, 3), nn.MaxPool2d(2), nn.BatchNorm2d(4)))
    nn.init.constant_(model[2].weight[1:2], -1)
    (line,) = folds(model, draw(2, 3, 9, 9))
    assert "a maximum stands between it and 0, and some of its scales are negative" in line


class Flattened(nn.Module):
    def __init__(self, flatten):
        super().__init__()
        self.norm, self.pool, self.head = nn.BatchNorm2d(3), nn.AdaptiveAvgPool2d(2), nn.Linear(12, 4)
        self.flatten = flatten

    def forward(self, x):
        return self.head(F.dropout(self.flatten(self.pool(self.norm(x))), training=self.training))


@pytest.mark.parametrize("flatten", [nn.Flatten(), lambda x: torch.flatten(x, 1)])
def test_a_norm_is_folded_into_the_classifier_behind_a_flatten(flatten):
    assert folds(trained(Flattened(flatten)), draw(2, 3, 6, 6)) == ["norm: BatchNorm2d → folded into head"]


def test_pooling_over_what_a_linear_layer_calls_channels_is_not_passed():
    model = trained(nn.Sequential(nn.Linear(6, 6), nn.AdaptiveAvgPool1d(6), nn.BatchNorm1d(6)))
    (line,) = folds(model, draw(2, 6, 6))
    assert line.startswith("2: BatchNorm1d left alone: 0 feeds it over other channels")


class StandardizedInside(nn.Conv2d):
    """Its forward is torch's, but not what that calls."""

    def _conv_forward(self, x, weight, bias):
        return super()._conv_forward(x, weight / weight.std(), bias)


class Scaled(nn.Linear):
    @property
    def weight(self):
        return self._parameters["weight"] * 2


def test_convolutions_and_linear_layers_that_compute_something_else_take_no_norm():
    scaled = nn.Linear(6, 6)
    scaled.__class__ = Scaled
    called = nn.Conv2d(3, 6, 3)
    called._conv_forward = lambda x, weight, bias: F.conv2d(x, 2 * weight, bias)
    for model, x in (
        (nn.Sequential(StandardizedInside(3, 6, 3), nn.BatchNorm2d(6)), draw(2, 3, 6, 6)),
        (nn.Sequential(nn.BatchNorm2d(3), StandardizedInside(3, 6, 3)), draw(2, 3, 6, 6)),
        (nn.Sequential(scaled, nn.BatchNorm1d(6)), draw(2, 6)),
    ):
        (line,) = folds(trained(model), x)
        assert "left alone" in line
    report = []
    norms.fold(trained(nn.Sequential(called, nn.BatchNorm2d(6))), report=report)
    assert "0 (Conv2d) feeds it" in str(report[0])


def test_why_the_norms_of_a_densenet_stay_is_said():
    torch.manual_seed(0)
    report = []
    norms.fold(models.densenet121(weights=None, num_classes=4).eval(), report=report)
    left = {change.name: change.note for change in report if change.new is None}
    assert len(report) == 121 and len(left) == 62
    assert left["features.denseblock1.denselayer2.norm1"] == (
        "cat feeds it, and features.denseblock1.denselayer2.relu1 (ReLU) reads it"
    )


def test_a_container_with_hooks_goes_on_seeing_what_it_saw():
    seen = []
    model = trained(nn.Sequential(nn.Sequential(nn.Conv2d(3, 6, 3)), nn.BatchNorm2d(6), nn.Sequential(
        nn.Conv2d(6, 6, 3), nn.BatchNorm2d(6))))  # fmt: skip
    for container in (model[0], model[2]):
        container.register_forward_hook(lambda module, args, output: seen.append(output))
    lines = folds(model, draw(2, 3, 9, 9))
    assert len(seen) == 4 and torch.equal(seen[0], seen[2])  # no symbol of a trace among them
    assert lines[0].startswith("1: BatchNorm2d left alone: 0 (Sequential) feeds it")
    assert lines[1] == "2.1: BatchNorm2d left alone: 2, which holds it, has hooks"


def pruned():
    return prune.l1_unstructured(nn.Conv2d(3, 6, 3), "weight", 5)


def pruned_bias():
    return prune.random_unstructured(nn.Linear(3, 6), "bias", 2)


OLD = {
    "prune": (pruned, r"'1' is pruned; call torch.nn.utils.prune.remove\(layer, 'weight'\) first"),
    "prune bias": (pruned_bias, r"'1' is pruned; call torch.nn.utils.prune.remove\(layer, 'bias'\)"),
    "weight_norm": (
        lambda: nn.utils.weight_norm(nn.Conv2d(3, 6, 3)),
        r"'1' has an old-style weight norm; call torch.nn.utils.remove_weight_norm\(layer, 'weight'\)",
    ),
    "spectral_norm": (
        lambda: nn.utils.spectral_norm(nn.Conv2d(3, 6, 3)),
        r"'1' has an old-style spectral norm; call torch.nn.utils.remove_spectral_norm\(layer, 'weight'\)",
    ),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated:FutureWarning")
@pytest.mark.parametrize("kind", OLD)
def test_pruned_and_old_style_normed_layers_end_in_one_clear_error(kind):
    build, message = OLD[kind]
    model = nn.Sequential(nn.Identity(), build(), nn.BatchNorm2d(6)).eval()
    with pytest.raises(InputError, match=f"fold needs plain weights, but layer {message}") as error:
        norms.fold(model)
    assert "\n" not in str(error.value)
    norms.convert(nn.Sequential(build(), nn.BatchNorm2d(6), nn.ReLU()), "frn")


def test_several_such_layers_are_counted_and_can_be_folded_after_removal():
    model = nn.Sequential(pruned(), nn.BatchNorm2d(6), prune.identity(nn.Conv2d(6, 6, 3), "weight"))
    with pytest.raises(InputError, match=r"'0' is pruned \(1 more like it\)"):
        norms.fold(model.eval())
    for layer in (model[0], model[2]):
        prune.remove(layer, "weight")
    assert folds(trained(model), draw(2, 3, 9, 9)) == ["1: BatchNorm2d → folded into 0"]


def test_a_weight_with_a_graph_is_refused():
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)).eval()
    model[0].__dict__["weight"] = model[0]._parameters.pop("weight") * 2
    with pytest.raises(InputError, match="layer '0' computes its weight in each call"):
        norms.fold(model)


def test_an_activation_inside_a_norm_stops_the_way_forward():
    model = trained(nn.Sequential(BatchNormAct2d(3, nn.SiLU()), nn.Conv2d(3, 4, 1)))
    assert folds(model, draw(2, 3, 5, 5).to(DOUBLE))[0].endswith("its own SiLU follows it")
