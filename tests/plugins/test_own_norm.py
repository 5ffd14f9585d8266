"""A norm of one's own: its knobs, lanes, resuming, place in tables, and source in the signature."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

from normbench import cli, events, models, norms
from normbench.config.resolve import declared
from normbench.data.shape import Shape
from normbench.errors import InputError
from normbench.norms.contract import CLAUSES, Subject, broken
from normbench.norms.side_by_side import SideBySide
from normbench.plugins import loading
from normbench.store import Store
from normbench.sweeps import checkpointer, get_or_train

from .conftest import ALONE, NORM

QUICK = [
    "model=mlp", "model.hidden=[12]", "steps=6", "tracking=none", "engine.processes=1", "engine.device=cpu",
    "engine.precision=fp64", "data.train_size=200", "data.test_size=100",
]  # fmt: skip


def numbers(record) -> dict[str, float]:
    return {name: record.metrics[name] for name in ("train_loss", "test_loss", "test_error")}


def test_the_constructor_gives_the_knobs(plug, make_spec):
    plug(NORM)
    assert declared("norm", "mine") == {
        "name": "mine", "banks": False, "neutral": {"args.shift": 0.0}, "numerics": 1, "momentum": None,
        "eps": 1e-5, "affine": True, "args": {"alpha": 0.5, "shift": 0.0},
    }  # fmt: skip
    spec = make_spec("norm=mine", "norm.args.alpha=0.3", "norm.affine=weight")
    assert (spec.norm.args, spec.norm.affine) == ({"alpha": 0.3, "shift": 0.0}, "weight")
    assert "shift" not in spec.identity()["norm"]["args"]  # at its neutral value
    with pytest.raises(InputError, match=r"nearest: norm.args.alpha"):
        make_spec("norm=mine", "norm.args.alpa=0.3")
    with pytest.raises(InputError, match=r"mine: norm.args.alpha must be a finite number ≥ 0"):
        models.check(make_spec("model=mlp", "norm=mine", "norm.args.alpha=-1"), Shape(1, 8, 10, 100, 100))


def test_the_source_is_part_of_the_signature_of_its_runs_alone(plug, make_spec):
    packaged = make_spec("norm=bn").signature
    plug(NORM)
    before = make_spec("norm=mine")
    assert make_spec("norm=bn").signature == packaged
    assert before.identity()["plugins"] == {"norm": before.plugins["norm"]}
    plug(NORM + "\n    # changed\n")
    after = make_spec("norm=mine")
    assert after.signature != before.signature
    assert after.stack_key() != before.stack_key()


@pytest.mark.parametrize(("text", "key"), [(NORM, "mine"), (ALONE, "alone")])
def test_runs_train_as_lanes_of_a_stack_and_equal_lone_runs(plug, make_sweep, store, tmp_path, text, key):
    plug(text)
    words = [*QUICK, f"norm={key}", "seed=range(3)"]
    together = get_or_train.train(make_sweep(*words), store)
    apart = get_or_train.train(make_sweep(*words, "engine.lanes=1"), Store(tmp_path / "apart"))
    assert [record.provenance["stack_size"] for record in together] == [3, 3, 3]
    assert [record.provenance["stack_size"] for record in apart] == [1, 1, 1]
    for one, other in zip(together, apart, strict=True):
        assert numbers(one) == pytest.approx(numbers(other), rel=1e-9)
    assert len({record.metrics["test_loss"] for record in together}) == 3


@pytest.mark.parametrize(("text", "key"), [(NORM, "mine"), (ALONE, "alone")])
def test_a_killed_run_resumes_from_its_checkpoint(plug, make_sweep, store, monkeypatch, tmp_path, text, key):
    class Kill:
        def notify(self, event):
            if isinstance(event, events.StackLogged) and event.step >= 3:
                raise KeyboardInterrupt

        def close(self):
            pass

    plug(text)
    monkeypatch.setattr(checkpointer, "CHECKPOINT_EVERY_S", 0.0)
    sweep = make_sweep(*QUICK, f"norm={key}", "seed=range(2)", "eval.every=1")
    whole = get_or_train.train(sweep, Store(tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        get_or_train.train(sweep, store, [Kill()])
    records = get_or_train.train(sweep, store)
    assert [record.metrics for record in records] == [record.metrics for record in whole]
    assert 0 < records[0].provenance["resumed_from"] <= 3


def test_a_run_stands_in_a_table_trains_again_when_its_code_changes_and_is_read_without_it(
    plug, make_sweep, store, capsys
):
    words = [*QUICK, "norm=mine,bn"]
    file = plug(NORM)
    first = get_or_train.train(make_sweep(*words), store)
    assert first[0].provenance["plugins"] == {
        "norm": {"plugin": "my_part.py", "version": "1.2", "hash": first[0].spec["plugins"]["norm"]}
    }
    assert "plugins" not in first[1].provenance

    assert cli.run(["table", *words, "--rows", "norm", "--format", "csv", "--plugin", str(file)]) == 0
    assert re.search(r"^mine,\d", capsys.readouterr().out, re.M)

    plug(NORM.replace("x + self.shift", "x - self.shift"))
    assert cli.run(["plan", *words]) == 0
    assert capsys.readouterr().out.startswith("2 runs: 1 finished before, 1 to train in 1 stack\n")
    again = get_or_train.train(make_sweep(*words), store)
    assert again[0].signature != first[0].signature
    assert again[1].signature == first[1].signature

    loading.unload()
    assert cli.run(["table", "--rows", "norm,plugins.norm", "--format", "csv"]) == 0
    assert len(re.findall(r"^mine,", capsys.readouterr().out, re.M)) == 2
    assert cli.run(["info", first[0].signature]) == 0
    assert "it needs its plugin; add --plugin my_part.py to this command" in capsys.readouterr().out
    assert cli.run(["info", first[0].signature, "--plugin", str(file)]) == 0
    assert "normbench train --plugin my_part.py model=mlp norm=mine " in capsys.readouterr().out


def test_a_network_is_given_only_with_the_source_that_trained_it(plug, make_sweep, store, capsys, tmp_path):
    file = plug(NORM)
    [run] = get_or_train.train(make_sweep(*QUICK, "norm=mine"), store)
    commands = [
        ["export", run.signature, "--out", str(tmp_path / "out")],
        ["table", "--rows", "norm", "--metric", "ensemble_error"],
    ]
    loading.unload()
    for words in commands:
        assert cli.run(words) == 2
        said = (
            f"error: run {run.signature} needs its plugin; add --plugin my_part.py, or load it from Python\n"
        )
        assert capsys.readouterr().err == said
    plug(NORM.replace("x + self.shift", "x - self.shift"))
    for words in commands:
        assert cli.run(words) == 2
        assert f"plugin my_part.py has changed since run {run.signature}" in capsys.readouterr().err
    loading.unload()
    plug(NORM)
    for words in commands:
        assert cli.run([*words, "--plugin", str(file)]) == 0


def test_the_plan_says_once_that_a_norm_has_no_lanes(plug, capsys):
    plug(ALONE)
    assert cli.run(["plan", *QUICK, "norm=alone", "seed=range(3)"]) == 0
    said = capsys.readouterr().out
    assert (
        said.count("note: norm alone takes no lanes: the lanes of a stack are copies of it side by side") == 1
    )


@pytest.mark.slow
@pytest.mark.parametrize(("text", "key"), [(NORM, "mine"), (ALONE, "alone")])
def test_the_norms_of_these_tests_keep_the_contract(plug, text, key):
    plug(text)
    found = {clause.__name__: broken(clause, Subject(key)) for clause in CLAUSES}
    assert {name: reason for name, reason in found.items() if reason} == {}


def test_copies_side_by_side_equal_lone_modules_in_state_and_output(plug):
    plug(ALONE)
    layer = norms.build("alone", 4, 3, momentum=[0.1, 0.5, 1.0], eps=[1e-5, 1e-3, 0.1]).double()
    made = norms.entry("alone").layer.made
    alone = [
        made(4, momentum=m, eps=e).double() for m, e in zip((0.1, 0.5, 1.0), (1e-5, 1e-3, 0.1), strict=True)
    ]
    assert isinstance(layer, SideBySide) and layer.roles == {"gamma": "scale"}
    for seed in range(3):
        x = torch.randn(5, 12, 3, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        wanted = torch.cat([one(part) for one, part in zip(alone, x.chunk(3, 1), strict=True)], 1)
        torch.testing.assert_close(layer(x), wanted, rtol=0, atol=1e-14)
    for name in ("mean", "var", "gamma"):
        torch.testing.assert_close(getattr(layer, name), torch.cat([getattr(one, name) for one in alone]))
    assert layer.steps.tolist() == [3, 3, 3]
    x = torch.randn(2, 12, dtype=torch.float64)
    wanted = torch.cat([one.eval()(part) for one, part in zip(alone, x.chunk(3, 1), strict=True)], 1)
    assert torch.equal(layer.eval()(x), wanted)


@pytest.mark.parametrize(
    ("base", "arguments", "reason"),
    [
        (
            "torch.nn.Module",
            "channels, lanes=1",
            "a class with the argument lanes must derive from normbench",
        ),
        ("torch.nn.Module", "width", "must be called channels; got width"),
        ("torch.nn.Module", "channels, k", "argument k of Bad must have a default"),
        ("torch.nn.Module", "channels, k=[1]", "a number, a text, a boolean or None"),
        ("object", "channels", "must be a class that derives from torch.nn.Module"),
    ],
)
def test_a_class_that_cannot_be_a_norm_is_refused(write, base, arguments, reason):
    head = "import torch\nfrom normbench import plugins\n\n@plugins.norm('bad')\n"
    file = write("bad.py", f"{head}class Bad({base}):\n    def __init__(self, {arguments}): ...\n")
    with pytest.raises(InputError, match=re.escape(reason)):
        loading.load(str(file))
    assert "bad" not in norms.catalogue()


def test_a_copy_that_changes_the_shape_and_a_schedule_are_refused(plug):
    plug(ALONE.replace("return (x - mean.view(along)) * gain.view(along)", "return x[:1]"))
    with pytest.raises(norms.NormError, match="the output must have the shape of the input"):
        norms.build("alone", 4, 2)(torch.ones(3, 8))
    for momentum in ("linear:0.1:0.01", "cumulative"):
        with pytest.raises(norms.NormError, match="momentum must be a number in a layer without lanes"):
            norms.build("alone", 4, momentum=momentum)


def test_a_norm_of_ones_own_enters_a_model_of_ones_own(plug):
    plug(NORM)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    assert type(norms.convert(model, "mine", alpha=0.3)[1]).__name__ == "Mine"


@pytest.mark.slow
def test_worker_processes_load_the_plugin(plug, make_sweep, store):
    plug(NORM)
    words = [word for word in QUICK if "processes" not in word]
    sweep = make_sweep(*words, "norm=mine", "batch=4,8", "engine.processes=2")
    assert [record.status for record in get_or_train.train(sweep, store)] == ["complete", "complete"]
