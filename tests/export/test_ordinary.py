"""Our layers with one lane become torch's own layers, with equal outputs in evaluation."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from normbench import models, norms
from normbench.data.shape import Shape
from normbench.errors import InputError, RunFailure
from normbench.export.ordinary import check_equal, ordinary
from normbench.export.ordinary_norm import ordinary_norm
from normbench.export.source import source_of
from normbench.models.layers import Conv2d, Linear

#: Key of a norm → the layer of torch for maps, and for vectors; None: our own layer stays.
TORCH: dict[str, tuple[type | None, type | None]] = {
    "none": (nn.Identity, nn.Identity),
    "bn": (nn.BatchNorm2d, nn.BatchNorm1d),
    "brn": (nn.BatchNorm2d, nn.BatchNorm1d),
    "frozen": (nn.BatchNorm2d, nn.BatchNorm1d),
    "sync": (nn.BatchNorm2d, nn.BatchNorm1d),
    "gn": (nn.GroupNorm, nn.GroupNorm),
    "ln_chw": (nn.GroupNorm, nn.LayerNorm),
    "ln_c": (None, nn.LayerNorm),
    "rms": (None, nn.RMSNorm),
    "in": (nn.InstanceNorm2d, None),
    "frn": (None, None),
    "mabn": (None, None),
    "affine": (None, None),
}
RESNET = "model=resnet20 model.width=4 batch=4"


def trained(key: str, axes: int = 4, **arguments: object) -> norms.Norm:
    """A layer with 8 channels that has seen three batches, in evaluation mode."""
    layer = norms.build(key, 8, **arguments)
    generator = torch.Generator().manual_seed(1)
    shape = (16, 8) if axes == 2 else (16, 8, 4, 4)
    for step in range(3):
        layer.begin_step(step, 3)
        layer(1 + 2 * torch.randn(shape, generator=generator))
    for parameter in layer.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
    return layer.eval()


@pytest.mark.parametrize("axes", [4, 2])
@pytest.mark.parametrize("key", norms.catalogue())
def test_every_norm_has_a_layer_with_equal_outputs(key: str, axes: int) -> None:
    try:
        layer = trained(key, axes)
    except norms.NormError:
        pytest.skip("not for vectors")
    made = ordinary_norm(layer, axes)
    x = 3 * torch.randn((6, 8) if axes == 2 else (6, 8, 7, 7))
    with torch.no_grad():
        torch.testing.assert_close(made(x), layer(x), rtol=1e-4, atol=1e-5)
    if key in TORCH:
        wanted = TORCH[key][axes == 2]
        assert type(made) is (wanted or type(layer))


def test_statistics_that_only_look_like_those_of_bn_stay_ours() -> None:
    for arguments in ({"track": False}, {"scale": False}, {"center": False}):
        layer = trained("bn", **arguments)
        assert type(ordinary_norm(layer, 4)) is type(layer)


@pytest.mark.parametrize(("momentum", "wanted"), [(0.03, 0.03), ("cumulative", None), ("debiased:0.2", 0.1)])
def test_the_momentum_is_that_of_torch_if_it_has_one(momentum: float | str, wanted: float | None) -> None:
    made = ordinary_norm(norms.build("bn", 8, momentum=momentum).eval(), 4)
    assert isinstance(made, nn.BatchNorm2d)
    assert made.momentum == wanted


@pytest.mark.parametrize(
    "words",
    [
        "model=lenet5 norm=bn weight=ws model.dropout=0.2 batch=4",
        f"{RESNET} norm=gn model.branch=skipinit model.shortcut=pad",
        f"{RESNET} norm=bn placement=norm_act_conv",
        f"{RESNET} norm=brn placement=after_add engine.precision=fp64",
        f"{RESNET} norm=none model.branch=fixup model.init=he",
        "model=mlp norm=ln_c weight=wn batch=4",
    ],
)
def test_a_network_becomes_layers_of_torch(words: str, make_spec) -> None:
    spec = make_spec(*words.split())
    shape = models.fitted(spec, Shape(1, 28, 10, 64, 64))
    dtype = torch.float64 if spec.engine.precision == "fp64" else torch.float32
    network = models.build([spec], shape).to(dtype)
    side = (4, 1, shape.size, shape.size)
    for parameter in network.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)  # scalars and classifiers that begin at 0 count
    for _ in range(2):
        network(1 + torch.randn(side, dtype=dtype))
    network.eval()
    body = ordinary(network, torch.randn(side, dtype=dtype))
    x = torch.randn(side, dtype=dtype)
    with torch.no_grad():
        check_equal(network(x)[:, 0], body(x), "they")
    ours = (Conv2d, Linear, norms.Norm, models.Network)
    assert not [layer for layer in body.modules() if isinstance(layer, ours)]
    assert "nn.Conv2d" in source_of(body, {}) or "mlp" in words


def test_outputs_that_differ_are_refused() -> None:
    a = torch.tensor([1.0, 2.0])
    assert check_equal(a, a + 1e-6, "x") < 2e-5
    with pytest.raises(RunFailure, match=r"x must give equal outputs; they differ by 5\.0e-03"):
        check_equal(a, a + 0.01, "x")
    with pytest.raises(RunFailure):
        check_equal(a, a * torch.nan, "x")


def test_a_layer_from_elsewhere_has_no_text() -> None:
    with pytest.raises(InputError, match=r"export cannot write a layer Odd.*normbench\.load"):
        source_of(nn.Sequential(type("Odd", (nn.Module,), {})()), {})


class Elsewhere(nn.Module):
    """A body that was not built here, with layers of ours inside."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3)
        self.blocks = nn.ModuleList([norms.build("bn", 4), norms.build("frn", 4)])
        self.head = nn.Linear(4, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = block(x).relu()
        logits: torch.Tensor = self.head(x.mean((2, 3)))
        return logits


def test_the_layers_of_a_body_from_elsewhere_become_ordinary_where_they_stand() -> None:
    body = Elsewhere()
    network = models.Network(body, 1, ())
    network(1 + torch.randn(4, 1, 8, 8))
    network.eval()
    made = ordinary(network, torch.randn(4, 1, 8, 8))
    assert isinstance(made, Elsewhere)
    assert [type(block).__name__ for block in made.blocks] == ["BatchNorm2d", "FilterResponseNorm"]
    assert type(body.blocks[0]) is norms.entry("bn").layer  # the network itself is left alone
    x = torch.randn(4, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(made(x), body(x), rtol=1e-4, atol=1e-5)
        made.stem.weight.zero_()
        assert bool(body.stem.weight.abs().sum() > 0)
