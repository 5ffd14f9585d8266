"""Models of torchvision and timm: names, sizes, norms, and training."""

from __future__ import annotations

import sys

import pytest
import torch

from normbench import cli, models
from normbench.data.shape import Shape
from normbench.models import library
from normbench.norms.methods.gn import GroupNorm
from normbench.sweeps import get_or_train

IMAGE = Shape(1, 8, 10, 200, 60)
needs_timm = pytest.mark.skipif(
    not __import__("importlib.util").util.find_spec("timm"), reason="timm is not installed"
)


@pytest.mark.parametrize(
    ("name", "side", "fits"),
    [
        ("torchvision:mobilenet_v3_small", 8, 32), ("torchvision:mobilenet_v3_small", 40, 40),
        ("torchvision:alexnet", 32, 64), ("torchvision:inception_v3", 32, 75),
        ("torchvision:vit_b_16", 32, 224), ("torchvision:vit_b_16", 300, 224),
    ],
)  # fmt: skip
def test_a_network_gets_the_side_of_the_data_or_the_next_one_that_it_takes(name, side, fits):
    assert library.fitting_size(name, Shape(3, side, 10, 1, 1)) == fits


def test_grey_images_colours_and_classes_fit(make_spec):
    spec = make_spec("model=torchvision:mobilenet_v3_small", "norm=gn", "norm.eps=0.01", "batch=2")
    assert models.fitted(spec, IMAGE).size == 32
    network = models.build([spec], models.fitted(spec, IMAGE))
    assert len(network.norms()) == 34 and all(
        isinstance(layer, GroupNorm) for layer in network.norms().values()
    )
    assert {layer.eps for layer in network.norms().values()} == {0.01}  # the network was built with 0.001
    assert network.eval()(torch.randn(2, 1, 32, 32)).shape == (2, 1, 10)
    again = models.build([spec], models.fitted(spec, IMAGE))
    for one, other in zip(network.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    other = models.build([make_spec("model=torchvision:mobilenet_v3_small", "seed=1")], Shape(3, 32, 7, 9, 9))
    assert not torch.equal(
        other.body.network.features[0][0].weight, network.body.network.network.features[0][0].weight
    )


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["model=torchvision:resnet5"], "unknown model of torchvision 'resnet5'; nearest: resnet50"),
        (["model=keras:resnet50"], "unknown model 'keras:resnet50'"),
        (["model=torchvision:resnet18", "model.branch=fixup"], "model.branch=fixup is not possible"),
    ],
)
def test_what_does_not_exist_ends_in_one_line(capsys, words, reason):
    assert cli.run(["plan", "steps=2", *words]) == 2
    said = capsys.readouterr().err
    assert reason in said and said.count("\n") == 1


def test_a_missing_timm_says_what_to_install(capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    assert cli.run(["plan", "model=timm:legacy_xception", "steps=2"]) == 2
    assert "needs the package timm; install it with pip install 'normbench[timm]'" in capsys.readouterr().err


def test_knobs_that_a_library_model_lacks_are_dropped_and_named(capsys, make_sweep):
    [run] = make_sweep("model=torchvision:resnet18", "model.width=8", "model.dropout=0.5")
    assert run.unused == ("model.width of torchvision:resnet18", "model.dropout of torchvision:resnet18")
    assert "plugins" not in run.spec.identity()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "torchvision:densenet121", "torchvision:googlenet", "torchvision:inception_v3",
        "torchvision:mobilenet_v2", "torchvision:vgg11",
        pytest.param("timm:legacy_xception", marks=needs_timm),
        pytest.param("timm:densenet121", marks=needs_timm),
    ],
)  # fmt: skip
def test_library_models_train(name, make_sweep, store):
    words = [
        f"model={name}", "norm=gn,ln_chw", "batch=4", "steps=2", "data.train_size=16", "data.test_size=8",
        "optim.lr=0.01", "tracking=none", "engine.processes=1", "engine.device=cpu", "keep_weights=false",
    ]  # fmt: skip
    records = get_or_train.train(make_sweep(*words), store)
    assert [record.status for record in records] == ["complete", "complete"]
    assert [record.provenance["stack_size"] for record in records] == [1, 1]
    assert records[0].provenance["parameters"] > 10_000


@pytest.mark.slow
def test_three_norms_of_a_library_model_stand_in_a_table(make_sweep, store, capsys):
    words = [
        "model=torchvision:mobilenet_v3_small", "norm=bn,gn,none", "batch=4", "steps=2", "data.test_size=20",
        "data.train_size=16", "optim.lr=0.01", "tracking=none", "engine.processes=1", "keep_weights=false",
    ]  # fmt: skip
    get_or_train.train(make_sweep(*words), store)
    assert cli.run(["table", *words, "--rows", "norm", "--format", "csv"]) == 0
    rows = [line.partition(",")[0] for line in capsys.readouterr().out.splitlines()[1:4]]
    assert sorted(rows) == ["bn", "gn", "none"]
