"""fold: norms become part of the layers next to them if, and only if, that is exact."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize

from normbench import models as ours
from normbench import norms
from normbench.data.shape import Shape
from normbench.errors import InputError
from normbench.norms.linear_view import linear
from normbench.norms.surgery.last_axis import LastAxis
from normbench.norms.surgery.per_channel import per_channel
from normbench.norms.surgery.recognise import recognize

from .conftest import fitting
from .lookalikes import BatchNormAct2d

DOUBLE = torch.float64


def trained(model: nn.Module) -> nn.Module:
    """The model in evaluation and in fp64, with γ, β and statistics as after training."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        for name, tensor in module.named_buffers(recurse=False):
            if tensor.is_floating_point() and name.startswith("running_"):
                tensor.copy_(0.5 + torch.rand(tensor.shape, generator=generator))
        if hasattr(module, "running_var"):
            for _, parameter in module.named_parameters(recurse=False):
                nn.init.uniform_(parameter, 0.5, 1.5, generator=generator)
    return model.double().eval()


def draw(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=DOUBLE)


def assert_equal(folded: nn.Module, model: nn.Module, x: torch.Tensor) -> None:
    with torch.no_grad():
        torch.testing.assert_close(folded(x), model(x), rtol=1e-12, atol=1e-12)


def folds(model: nn.Module, x: torch.Tensor, example=None) -> list[str]:
    """Fold, compare, and give the report's lines."""
    report: list[norms.Change] = []
    assert_equal(norms.fold(model, example, report=report), model, x)
    return [str(change) for change in report]


CONVOLUTIONS = {
    "1d": (nn.Conv1d(4, 6, 3, stride=2, padding=1), nn.BatchNorm1d(6), (3, 4, 7)),
    "2d": (nn.Conv2d(4, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6), (3, 4, 7, 7)),
    "grouped": (nn.Conv2d(4, 6, 3, groups=2, padding="same"), nn.BatchNorm2d(6), (3, 4, 7, 7)),
    "reflecting": (nn.Conv2d(4, 6, 3, padding=1, padding_mode="reflect"), nn.BatchNorm2d(6), (3, 4, 7, 7)),
    "3d": (nn.Conv3d(4, 6, 3, dilation=2), nn.BatchNorm3d(6), (3, 4, 7, 7, 7)),
    "transposed": (nn.ConvTranspose2d(4, 6, 3, stride=2, bias=False), nn.BatchNorm2d(6), (3, 4, 7, 7)),
    "transposed, grouped": (nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), (3, 4, 7, 7)),
    "linear": (nn.Linear(4, 6), nn.BatchNorm1d(6), (3, 4)),
    "linear, last axis": (nn.Linear(4, 6), LastAxis(norms.build("bn", 6)), (3, 7, 4)),
    "without γ": (nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6, affine=False), (3, 4, 7, 7)),
    "synchronized": (nn.Conv2d(4, 6, 3), nn.SyncBatchNorm(6), (3, 4, 7, 7)),
}


@pytest.mark.parametrize("kind", CONVOLUTIONS)
def test_a_norm_becomes_part_of_the_layer_that_feeds_it(kind):
    layer, norm, shape = CONVOLUTIONS[kind]
    model = trained(nn.Sequential(copy.deepcopy(layer), nn.Identity(), copy.deepcopy(norm), nn.ReLU()))
    before = copy.deepcopy(model.state_dict())
    (line,) = folds(model, draw(*shape))
    assert line == f"2: {type(norm).__name__} → folded into 0"
    after = model.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)  # the model stays as it is
    assert isinstance(model[2], type(norm))


@pytest.mark.parametrize(
    ("norm", "layer", "shape"),
    [
        (nn.BatchNorm1d(4), nn.Conv1d(4, 6, 3), (3, 4, 7)),
        (nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, groups=2, bias=False), (3, 4, 7, 7)),
        (nn.BatchNorm2d(4), nn.Conv2d(4, 6, 1, padding="same"), (3, 4, 7, 7)),
        (nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, padding=1, padding_mode="circular"), (3, 4, 7, 7)),
        (nn.BatchNorm1d(4), nn.Linear(4, 6), (3, 4)),
        (norms.build("affine", 4), nn.Conv2d(4, 6, 3), (3, 4, 7, 7)),
    ],
)
def test_a_norm_becomes_part_of_the_layer_that_reads_it(norm, layer, shape):
    model = trained(nn.Sequential(nn.ReLU(), copy.deepcopy(norm), copy.deepcopy(layer)))
    assert folds(model, draw(*shape)) == [f"1: {type(norm).__name__} → folded into 2"]


def test_a_layer_between_two_norms_takes_both():
    model = trained(nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6)))
    lines = ["0: BatchNorm2d → folded into 1", "2: BatchNorm2d → folded into 1"]
    assert folds(model, draw(3, 4, 7, 7)) == lines


@pytest.mark.parametrize("padding", [1, (0, 1), "same"])
def test_a_norm_before_zero_padding_is_left_alone(padding):
    """Zeros padded after the norm would have to be −shift/scale before it."""
    model = trained(nn.Sequential(nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, padding=padding)))
    (line,) = folds(model, draw(3, 4, 7, 7))
    assert line.startswith(
        "0: BatchNorm2d left alone: the model's input feeds it, and 1 reads it and pads with"
    )
    forced = copy.deepcopy(model)
    linear(forced[1]).absorb_input(*per_channel(recognize(model[0]), 4))
    forced[0] = nn.Identity()
    x = draw(3, 4, 7, 7)
    assert (forced(x) - model(x)).abs().max() > 0.1  # it would have been wrong
    transposed = trained(nn.Sequential(nn.BatchNorm2d(4), nn.ConvTranspose2d(4, 6, 3)))
    assert "left alone" in folds(transposed, draw(3, 4, 7, 7))[0]


@pytest.mark.parametrize("key", sorted(norms.catalogue()))
def test_a_method_is_folded_if_and_only_if_its_evaluation_is_a_fixed_scale_and_shift(key):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), norms.build(key, 6, **fitting(key))).double()
    for _ in range(3):
        model(torch.randn(4, 3, 8, 8, dtype=DOUBLE))
    for parameter in model[1].parameters():
        nn.init.uniform_(parameter, 0.5, 1.5)
    model.eval()
    (line,) = folds(model, draw(4, 3, 8, 8))
    x = draw(4, 6, 5, 5)
    with torch.no_grad():
        layer, zero = model[1], model[1](torch.zeros_like(x))
        additive = torch.allclose(layer(3 * x) - zero, 3 * (layer(x) - zero), rtol=1e-9, atol=1e-9)
        spatial = not torch.allclose(layer(x)[:, :, :3, :3], layer(x[:, :, :3, :3]), rtol=1e-9, atol=1e-9)
    if additive and not spatial and norms.entry(key).family != "whitening":
        assert line.endswith("folded into 0")
    else:
        assert line.endswith("left alone: in evaluation it is not a fixed scale and shift per channel")
    assert ("bn", "ghost", "sync", "frozen", "brn", "affine", "none").count(key) <= ("folded" in line)


class Branching(nn.Module):
    """conv feeds the norm and something else."""

    def __init__(self, reader):
        super().__init__()
        self.conv, self.norm, self.reader = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), reader

    def forward(self, x):
        y = self.conv(x)
        return self.reader(self.norm(y), y)


class Twice(nn.Module):
    """The norm reads two layers in turn, or one layer feeds it twice."""

    def __init__(self, second):
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.second = second or self.first

    def forward(self, x):
        return self.norm(self.second(self.norm(self.first(x))))


def test_a_norm_stays_if_its_neighbours_are_shared():
    x = draw(2, 3, 8, 8)
    left = "BatchNorm2d left alone"
    for reader, name in (
        (torch.add, "add"),
        (lambda y, z: y * z.mean(), "mul"),
        (lambda y, z: (y, z)[0] if y is None else y + z.shape[2], "add"),
    ):
        line = f"norm: {left}: conv (Conv2d) feeds it and others, and {name} reads it"
        assert folds(trained(Branching(reader)), x) == [line]
    line = f"norm: {left}: several layers feed it, and the model's output reads it"
    assert folds(trained(Twice(nn.Conv2d(3, 3, 3, padding=1))), x) == [line]
    line = f"2: {left}: 1 (ReLU) feeds it, and the model's output reads it"
    assert folds(trained(nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.BatchNorm2d(6))), x) == [line]


def test_a_pair_that_is_called_several_times_is_folded_once():
    model = trained(Twice(None))
    assert folds(model, draw(2, 3, 8, 8)) == ["norm: BatchNorm2d → folded into first"]


def test_a_tied_weight_is_not_changed_for_the_other_layer():
    one, other = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
    other.weight = one.weight
    model = trained(nn.Sequential(one, nn.BatchNorm2d(3), nn.ReLU(), other))
    assert folds(model, draw(2, 3, 8, 8)) == ["1: BatchNorm2d → folded into 0"]
    for layer in (one, other):
        parametrize.register_parametrization(layer, "weight", Doubled())
    assert len(folds(model.eval(), draw(2, 3, 8, 8))) == 3


def test_a_layer_whose_weight_is_read_elsewhere_keeps_it():
    class Autoencoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.code, self.norm = nn.Linear(6, 4), nn.BatchNorm1d(4)

        def forward(self, x):
            return F.linear(self.norm(self.code(x)), self.code.weight.T)

    (line,) = folds(trained(Autoencoder()), draw(3, 6))
    assert "left alone" in line


class Doubled(nn.Module):
    def forward(self, weight):
        return 2 * weight


class Standardized(nn.Conv2d):
    """Weight standardization in the forward pass, as in timm."""

    def forward(self, x):
        weight = F.batch_norm(self.weight.flatten(1).unsqueeze(0), None, None, training=True).view_as(
            self.weight
        )
        return F.conv2d(x, weight, self.bias)


def test_layers_with_an_own_forward_are_left_alone():
    x = draw(2, 3, 8, 8)
    strange = trained(nn.Sequential(Standardized(3, 6, 3), nn.BatchNorm2d(6)))
    line = "1: BatchNorm2d left alone: 0 (Standardized) feeds it, and the model's output reads it"
    assert folds(strange, x) == [line]
    seen = []
    watched = trained(nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)))
    watched[0].register_forward_hook(lambda *args: seen.append(args) and None)
    (line,) = folds(watched, x)
    assert line == "1: BatchNorm2d left alone: it or 0 has hooks, and the model's output reads it"
    patched = trained(nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)))
    conv = patched[0]
    patched[0].forward = lambda x: nn.Conv2d.forward(conv, x).relu()
    assert "left alone" in str(folds_patched(patched))


def folds_patched(model):
    report = []
    norms.fold(model, report=report)
    return report[0]


def test_a_linear_layer_on_more_axes_is_refused_rather_than_folded_wrongly():
    """torch.nn.BatchNorm1d takes axis 1 for channels, torch.nn.Linear the last: the same on (N, C) alone."""
    model = trained(nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6)))
    assert len(folds(model, draw(3, 6))) == 1
    model(draw(3, 6, 6))
    with pytest.raises(InputError, match=r"its input must be \(N, C\); got \(3, 6, 6\)"):
        norms.fold(model)(draw(3, 6, 6))


class Untraceable(nn.Module):
    def __init__(self, upto=4):
        super().__init__()
        self.upto = upto
        self.layers = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 1))

    def forward(self, x):
        if x.sum() > 1e9:
            return x
        seen = []
        for layer in self.layers:
            x = layer(x)
            seen.append(x)
        return {"last": seen[self.upto - 1], "numbers": torch.arange(3)}


def test_a_model_that_cannot_be_traced_is_folded_by_its_containers_and_checked_on_an_example():
    model, x = trained(Untraceable()), draw(2, 3, 8, 8)
    with pytest.raises(
        InputError, match=r"cannot trace a Untraceable: .*control flow.* Give fold an example"
    ):
        norms.fold(model)
    report = []
    folded = norms.fold(model, x, report=report)
    assert [str(change) for change in report] == ["layers.1: BatchNorm2d → folded into layers.0"]
    torch.testing.assert_close(folded(x)["last"], model(x)["last"], rtol=1e-12, atol=1e-12)
    with pytest.raises(InputError, match="must give the model's outputs, but on the example they differ by"):
        norms.fold(trained(Untraceable(upto=1)), (x,))


def test_without_a_trace_a_layer_in_two_containers_is_left_alone():
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            norm = nn.BatchNorm2d(6)
            self.late, self.early = nn.Sequential(nn.ReLU(), norm), nn.Sequential(nn.Conv2d(3, 6, 3), norm)

        def forward(self, x):
            return self.late(self.early(x)) if x.sum() < 1e9 else x

    x = draw(2, 3, 8, 8)
    (line,) = folds(trained(Shared()), x, x)
    assert line.startswith("late.1: BatchNorm2d left alone: which layer feeds it is not known")


def test_an_activation_inside_a_norm_stays_and_stands_between_it_and_what_reads_it():
    x = draw(2, 3, 8, 8)
    model = trained(nn.Sequential(nn.Conv2d(3, 6, 3), BatchNormAct2d(6, nn.SiLU()), nn.Conv2d(6, 6, 1)))
    assert folds(model, x) == ["1: BatchNormAct2d → folded into 0"]
    assert type(norms.fold(model)[1].act) is nn.SiLU
    (line,) = folds(trained(nn.Sequential(BatchNormAct2d(3, nn.SiLU()), nn.Conv2d(3, 6, 1))), x)
    assert line == "0: BatchNormAct2d left alone: the model's input feeds it, and its own SiLU follows it"


def test_an_example_is_always_compared():
    model = trained(nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)))
    assert len(folds(model, draw(2, 3, 8, 8), example=(draw(2, 3, 8, 8),))) == 1


def test_optional_inputs_are_left_at_their_defaults():
    class Optional(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x, other=None, scale=2.0, *, skip=False):
            y = self.conv(x)
            y = y + other if other is not None else y
            return scale * (y if skip else self.norm(y))

    assert folds(trained(Optional()), draw(2, 3, 8, 8)) == ["norm: BatchNorm2d → folded into conv"]


def test_looking_at_a_model_leaves_no_trace_in_it():
    class Keeping(nn.Sequential):
        def forward(self, x):
            self.kept = self[0](x)
            return self[2](self[1](self.kept))

    for use in (norms.fold, lambda model: norms.convert(model, "frn")):
        model = Keeping(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU()).eval()
        use(model)
        assert not hasattr(model, "kept")


def test_models_that_cannot_be_folded_are_refused():
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6))
    with pytest.raises(InputError, match=r"evaluation mode; call model.eval\(\) first"):
        norms.fold(model)
    with pytest.raises(InputError, match="with weights; this one is on the meta device"):
        norms.fold(model.eval().to("meta"))


def test_dtype_device_and_requires_grad_stay():
    model = nn.Sequential(nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6)).eval().bfloat16()
    model.requires_grad_(False)
    conv = norms.fold(model)[0]
    assert conv.weight.dtype == conv.bias.dtype == torch.bfloat16
    assert not conv.weight.requires_grad and not conv.bias.requires_grad


@pytest.mark.parametrize(
    "apply",
    [parametrizations.weight_norm, parametrizations.spectral_norm, parametrizations.orthogonal],
    ids=lambda apply: apply.__name__,
)
def test_parametrizations_become_plain_weights(apply):
    torch.manual_seed(0)
    model = trained(
        nn.Sequential(apply(nn.Conv2d(3, 6, 3)), nn.BatchNorm2d(6), nn.Flatten(), apply(nn.Linear(6, 4)))
    )
    report = []
    folded = norms.fold(model, report=report)
    assert_equal(folded, model, draw(2, 3, 3, 3))
    assert [change.new for change in report] == ["a plain weight", "a plain weight", "folded into 0"]
    assert not any(parametrize.is_parametrized(module) for module in folded.modules())
    assert set(folded[0].state_dict()) == {"weight", "bias"}
    assert (type(folded[0]), type(folded[3])) == (nn.Conv2d, nn.Linear)


@pytest.mark.parametrize(
    ("name", "lanes", "weight", "norm"),
    [
        *((name, lanes, "ws", "bn") for name in ("lenet5", "vgg11", "resnet20") for lanes in (1, 3)),
        ("lenet5", 3, "none", "bn"),
        ("lenet5", 3, "wn", "bn"),
        ("resnet20", 1, "ws", "gn"),
    ],
)
def test_stacked_networks_are_folded_lane_by_lane(make_spec, name, lanes, weight, norm):
    words = [f"model={name}", f"norm={norm}", f"weight={weight}", "data=synthetic", "data.size=32"]
    words += ["model.width=4"] * (name != "lenet5")
    specs = [make_spec(*words, f"seed={seed}", f"norm.eps={0.1 * (1 + seed)}") for seed in range(lanes)]
    image = Shape(channels=3, size=32, classes=10, train_images=8, test_images=8)
    network = trained(ours.build(specs, image))
    x = draw(2, 3 * lanes, 32, 32)
    report = []
    folded = norms.fold(network, report=report)
    assert_equal(folded, network, x)
    sites = {"lenet5": 4, "vgg11": 8, "resnet20": 19}[name]
    assert sum(str(change.new).startswith("folded into") for change in report) == sites * (norm == "bn")
    maps = {"none": 0, "ws": sites, "wn": sites + 1}[weight]
    assert sum(change.new == "a plain weight" for change in report) == maps


def test_a_linear_layer_keeps_the_strides_of_its_weight(make_spec):
    spec = make_spec("model=lenet5", "norm=bn", "data=synthetic", "data.size=32")
    network = ours.build([spec], Shape(channels=3, size=32, classes=10, train_images=8, test_images=8)).eval()
    folded = dict(norms.fold(network).named_parameters())
    for name, parameter in network.named_parameters():
        assert name not in folded or parameter.dim() == 1 or folded[name].stride() == parameter.stride()


class Reads(nn.Module):
    """A model whose forward pass reads from its layers what folding changes."""

    def __init__(self, read):
        super().__init__()
        self.conv, self.norm, self.read = nn.Conv2d(3, 6, 3, bias=False), nn.BatchNorm2d(6), read

    def forward(self, x):
        return self.norm(self.conv(x)) * self.read(self)


@pytest.mark.parametrize(
    "read",
    [
        lambda model: 2 if model.conv.bias is None else 3,
        lambda model: 1 + model.norm.eps,
        lambda model: 1.0 * model.norm.num_features,
        lambda model: model.norm.running_var.sum(),
    ],
)
@pytest.mark.parametrize("example", [None, torch.zeros(1, 3, 5, 5)])
def test_a_model_that_reads_what_folding_changes_is_refused_or_left_alone(read, example):
    model, x = Reads(read).eval(), torch.randn(2, 3, 5, 5)
    try:
        folded = norms.fold(model, example)
    except InputError as error:
        assert "reads from its layers what folding changes" in str(error)
    else:
        torch.testing.assert_close(folded(x), model(x))
        assert isinstance(folded.norm, nn.BatchNorm2d)


def test_a_layer_without_weights_yet_is_named():
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.LazyBatchNorm2d()).eval()
    with pytest.raises(InputError, match="layer '1' waits for its first input"):
        norms.fold(model)


def test_a_model_that_gives_nan_keeps_giving_it():
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6)).eval()
    model[1].running_var.fill_(math.nan)
    folded = norms.fold(model, torch.randn(2, 3, 5, 5))
    assert isinstance(folded[1], nn.BatchNorm2d) and isinstance(folded[3], nn.Identity)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:FutureWarning")
def test_scripted_layers_are_left_alone():
    scripted = [torch.jit.script(layer.eval()) for layer in (nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6))]
    model = nn.Sequential(*scripted, nn.Conv2d(6, 6, 3), nn.BatchNorm2d(6)).eval()
    x, report = torch.randn(2, 3, 8, 8), []
    folded = norms.fold(model, x, report=report)
    torch.testing.assert_close(folded(x), model(x))
    assert [change.new for change in report] == [None, "folded into 2"]
    norms.convert(model, "frn")
    plain = norms.insert(nn.Sequential(scripted[0], nn.Conv2d(6, 6, 3)), "cbn", after="1")
    assert (model[3].key, model[1], plain[1].norm.key) == ("frn", scripted[1], "cbn")
