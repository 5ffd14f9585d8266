"""Models of one's own: ordinary modules train one per stack, those of a builder as lanes."""

from __future__ import annotations

import re

import pytest
import torch

from normbench import cli, models, plugins
from normbench.config.compose import compose
from normbench.config.resolve import resolve
from normbench.data.shape import Shape
from normbench.errors import InputError
from normbench.norms.methods.bn import BatchNorm
from normbench.norms.methods.gn import GroupNorm
from normbench.plugins import loading
from normbench.sweeps import get_or_train

ORDINARY = '''
    from torch import nn
    from normbench import plugins

    @plugins.model("small")
    def small(image):
        """A small convolutional net."""
        return nn.Sequential(
            nn.Conv2d(image.channels, 4, 3, stride=2), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.5),
            nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, image.classes),
        )

    @plugins.model("bare")
    def bare(image):
        return nn.Sequential(
            nn.Conv2d(image.channels, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(4, image.classes),
        )

    @plugins.model("placeless")
    def placeless(image):
        return nn.Sequential(nn.Flatten(), nn.Linear(image.channels * image.size**2, image.classes))

    @plugins.model("other")
    def other(image):
        return nn.Sequential(nn.Conv2d(image.channels, 4, 3), nn.BatchNorm2d(4))
'''
STACKED = '''
    from torch import nn
    from normbench import plugins

    @plugins.stacked_model("wide", width=12)
    def wide(b):
        """One hidden layer."""
        width, inputs = b.spec.model.width, b.image.channels * b.image.size**2
        hidden = b.linear("fc", inputs, width, read_by=b.reader("fc"))
        return nn.Sequential(nn.Flatten(), b.unit("fc", hidden, width), b.head(width))
'''
QUICK = [
    "steps=4", "tracking=none", "engine.processes=1", "engine.device=cpu", "engine.precision=fp64",
    "data.train_size=200", "data.test_size=60",
]  # fmt: skip
IMAGE = Shape(1, 8, 10, 200, 60)


@pytest.fixture
def spec():
    """The run of some words. Composed anew, because a test may change the knobs of a name."""
    return lambda *words: resolve(compose(words)[0]).spec


def test_an_ordinary_module_gets_the_norm_of_the_run_at_its_sites(plug, spec):
    plug(ORDINARY)
    network = models.build([spec("model=small", "norm=gn", "norm.args.group_size=2", "norm.eps=0.01")], IMAGE)
    assert network.sites == ("1", "5")
    assert all(isinstance(layer, GroupNorm) and layer.eps == 0.01 for layer in network.norms().values())
    network = models.build(
        [spec("model=small", "norm=bn", "norm.momentum=0.3", "placement.sites=last")], IMAGE
    )
    kinds = {site: type(layer) for site, layer in network.norms().items()}
    assert kinds["5"] is BatchNorm and kinds["1"] is not BatchNorm
    assert str(network.norms()["5"].momenta[0]) == "0.3"
    assert network.eval()(torch.randn(3, 1, 8, 8)).shape == (3, 1, 10)
    roles = network.roles()
    assert roles["body.network.0.weight"] == roles["body.network.9.weight"] == "weight"
    assert (roles["body.network.0.bias"], roles["body.network.5.weight"]) == ("bias", "scale")


def test_a_module_without_norms_gets_one_after_every_convolution(plug, spec):
    plug(ORDINARY)
    network = models.build([spec("model=bare", "norm=bn")], IMAGE)
    assert list(network.norms()) == ["0"]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["model=placeless"], "model=placeless has no place for norms: it has neither a norm layer nor"),
        (["model=other"], "model=other must return logits of shape (N, 10)"),
        (["model=small", "placement=conv_act_norm"], "placement=conv_act_norm is not possible; use"),
        (["model=small", "weight=ws"], "weight=ws is not possible; use weight=none"),
        (["model=small", "model.init=xavier"], "model.init=xavier is not possible; use model.init=he"),
        (["model=small", "optim.train=norm+head"], "is not possible; use optim.train=all"),
        (["model=small", "placement.sites=conv1"], "unknown site 'conv1'"),
        (["model=small", "norm=gn", "norm.args.num_groups=5"], "small: layer 1: gn: norm.args.num_groups"),
    ],
)  # fmt: skip
def test_what_does_not_fit_ends_in_one_line(plug, capsys, words, reason):
    plug(ORDINARY)
    assert cli.run(["plan", *QUICK, *words]) == 2
    said = capsys.readouterr().err
    assert reason in said and said.count("\n") == 1


def test_runs_of_an_ordinary_module_train_one_per_stack_and_repeat_themselves(
    plug, make_sweep, store, tmp_path, capsys
):
    plug(ORDINARY)
    words = [*QUICK, "model=small", "norm=bn", "seed=range(2)", "batch=8"]
    assert cli.run(["plan", *words, "engine.lanes=8"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("2 runs: 2 to train in 2 stacks\n")
    assert (
        said.count("note: model small is an ordinary module without lanes: its runs train one per stack") == 1
    )
    assert "at most 1 lane a stack because model small has no lanes" in said
    records = get_or_train.train(make_sweep(*words), store)
    torch.manual_seed(5)
    torch.rand(3)  # the state of torch's generator does not matter: dropout follows from seed and step
    again = get_or_train.train(make_sweep(*words), type(store)(tmp_path / "again"))
    assert [r.metrics for r in again] == [r.metrics for r in records]
    assert records[0].metrics["train_loss"] != records[1].metrics["train_loss"]


def test_momenta_of_batch_norm_in_an_ordinary_module_share_one_training(plug, capsys):
    plug(ORDINARY)
    assert cli.run(["plan", *QUICK, "model=small", "norm=bn", "norm.momentum=0.1,0.5,0.9", "batch=8"]) == 0
    assert capsys.readouterr().out.startswith("3 runs: 3 to train → 1 training → 1 stack\n")


def test_a_model_of_a_builder_trains_as_lanes(plug, make_sweep, store):
    plug(STACKED)
    records = get_or_train.train(make_sweep(*QUICK, "model=wide", "engine.lanes=4", "seed=range(3)"), store)
    assert [r.provenance["stack_size"] for r in records] == [3, 3, 3]
    assert records[0].spec["model"]["width"] == 12
    assert list(records[0].provenance["sites"]) == ["fc"]


@pytest.mark.parametrize(("text", "name"), [(ORDINARY, "small"), (STACKED, "wide")])
def test_a_changed_model_trains_again(plug, spec, text, name):
    plug(text)
    before = spec(f"model={name}")
    plug(text.replace("nn.ReLU()", "nn.ELU()").replace("One hidden", "1 hidden"))
    after = spec(f"model={name}")
    assert before.signature != after.signature
    assert before.plugins.keys() == after.plugins.keys() == {"model"}


@pytest.mark.parametrize("kind", ["model", "stacked_model"])
def test_a_function_that_cannot_be_called_with_one_argument_is_refused_when_it_is_registered(write, kind):
    text = f"""
        from normbench import plugins

        @plugins.{kind}("wrong")
        def wrong(channels, size, classes): ...
    """
    reason = r"model wrong must be a function of one argument, def …\((shape|builder)\): missing a required"
    with pytest.raises(InputError, match=reason):
        plugins.load(str(write("wrong.py", text)))


def test_a_knob_and_a_placement_that_do_not_exist_are_refused(write):
    for given, reason in (
        ("depth=3", "unknown knob of model x 'depth'"),
        ("placements=['conv']", "unknown placement"),
    ):
        file = write(
            "bad.py", f"from normbench import plugins\n@plugins.stacked_model('x', {given})\ndef x(b): ...\n"
        )
        with pytest.raises(InputError, match=re.escape(reason)):
            loading.load(str(file))
