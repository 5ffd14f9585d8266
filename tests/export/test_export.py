"""`normbench export` and `normbench.load`: a trained run as a module and as files."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

import normbench
from normbench import cli, data
from normbench.data.class_names import class_names
from normbench.data.standardize import Standardize
from normbench.export.parts import TrainedNetwork
from normbench.norms import Norm
from normbench.record import Record
from normbench.spec import RunSpec
from normbench.store import Store

Capture = pytest.CaptureFixture[str]
SHORT = ["model=mlp", "model.hidden=[16]", "steps=5", "tracking=none", "engine.processes=1", "seed=3"]


def train(*words: str) -> Record:
    [record] = normbench.sweep([*SHORT, *words], quiet=True)
    return record


def errors(network: nn.Module, record: Record) -> float:
    """The test error by the module's own preprocessing, from the images as they are stored."""
    spec = RunSpec.model_validate(record.spec)
    dataset = data.load(spec.data)
    assert isinstance(network, TrainedNetwork)
    with torch.no_grad():
        found = network(network.preprocess(dataset.test_images)).argmax(1)
    return float((found != dataset.test_labels).double().mean())


def test_the_test_error_of_the_module_is_that_of_the_record() -> None:
    runs = normbench.sweep([*SHORT, "norm=bn", "norm.momentum=0.1,0.9"], quiet=True)
    assert [run.provenance["bank"] for run in runs] == [0, 1]
    networks = [normbench.load(run.signature[:8]) for run in runs]
    for run, network in zip(runs, networks, strict=True):
        assert not network.training
        assert [type(layer) for layer in network.body] == [
            nn.Flatten, nn.Linear, nn.BatchNorm1d, nn.ReLU, nn.Linear,
        ]  # fmt: skip
        assert errors(network, run) == pytest.approx(run.metrics["test_error"], abs=1e-12)
        assert network.about["classes"] == [str(n) for n in range(10)]
    mean, other = (network.body[2].running_mean for network in networks)
    assert not torch.equal(mean, other)  # each has its own bank
    folded = normbench.load(runs[0], fold=True)
    assert [type(layer) for layer in folded.body] == [nn.Flatten, nn.Linear, nn.ReLU, nn.Linear]
    assert errors(folded, runs[0]) == pytest.approx(runs[0].metrics["test_error"], abs=1e-12)


@pytest.mark.parametrize("kind", ["channel", "pixel", "minmax", "none", "image"])
def test_preprocessing_is_that_of_training(kind: str, make_spec, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = make_spec("data=digits", f"data.standardize={kind}")
    dataset = data.load(spec.data, size=10)
    how = {"kind": kind, "mean": list(dataset.mean), "std": list(dataset.std)}
    network = TrainedNetwork(nn.Identity(), {"standardize": how, "input": [1, 10, 10], "dtype": "float32"})
    images = data.load(spec.data).test_images[:50]
    expected = Standardize(dataset, 1, False, torch.float32)(dataset.test_images[:50])
    assert torch.equal(network.preprocess(images), expected)


def test_a_module_without_its_data_says_so() -> None:
    how = {"kind": "channel", "mean": None, "std": None, "why": "no files of data=mnist"}
    network = TrainedNetwork(nn.Identity(), {"standardize": how, "input": [1, 8, 8], "dtype": "float32"})
    with pytest.raises(ValueError, match="not known: no files of data=mnist"):
        network.preprocess(torch.zeros(1, 1, 8, 8, dtype=torch.uint8))


def test_exported_files_need_no_normbench(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    record = train("norm=bn", "weight=ws")
    assert cli.run(["export", record.signature, "--out", str(tmp_path / "out"), "--fold"]) == 0
    said = capsys.readouterr().out
    assert "2: BatchNorm1d → folded into 1" in said
    assert "note: weights are those that weight=ws gives" in said
    assert "input 1×8×8 (as is (8×8)), 10 classes" in said
    with monkeypatch.context() as without:
        for name in [name for name in sys.modules if name.partition(".")[0] == "normbench"]:
            without.setitem(sys.modules, name, None)  # importing it fails
        network = runpy.run_path(str(tmp_path / "out" / "load.py"))["load"]()
    assert not network.training
    found = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (found["run"], found["input"], found["norm"]) == (record.signature, [1, 8, 8], "bn")
    assert found["metrics"]["test_error"] == record.metrics["test_error"]
    images = data.load(RunSpec.model_validate(record.spec).data).test_images
    wanted = normbench.load(record)
    with torch.no_grad():
        torch.testing.assert_close(
            network(network.preprocess(images)), wanted(wanted.preprocess(images)), rtol=1e-4, atol=1e-5
        )


def test_a_norm_that_torch_lacks_is_ours_with_one_lane(tmp_path: Path, capsys: Capture) -> None:
    record = train("norm=mabn")
    assert cli.run(["export", *SHORT, "norm=mabn", "--out", str(tmp_path / "out")]) == 0
    assert "from normbench import norms" in (tmp_path / "out" / "load.py").read_text()
    network = runpy.run_path(str(tmp_path / "out" / "load.py"))["load"]()
    assert [layer.lanes for layer in network.modules() if isinstance(layer, Norm)] == [1]
    images = torch.randn(4, 1, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(network(images), normbench.load(record)(images))


@pytest.mark.slow
def test_onnx_gives_the_same_outputs(tmp_path: Path, capsys: Capture) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    record = train("norm=gn")
    assert cli.run(["export", record.signature, "--out", str(tmp_path / "out"), "--onnx"]) == 0
    said = capsys.readouterr().out
    assert "model.onnx; onnxruntime: outputs differ by " in said or "not compared" in said
    assert (tmp_path / "out" / "model.onnx").stat().st_size > 1000


def test_bad_input_is_one_line_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    record = train("norm=bn")
    store, out = Store.default(), str(tmp_path / "out")
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "config.json").touch()
    monkeypatch.setitem(sys.modules, "onnx", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    cases = {
        "unknown run 'fffe'": ["fffe", "--out", out],
        "the following arguments are required: --out": [record.signature],
        "--out must be a folder": [record.signature, "--out", str(tmp_path / "file")],
        "config.json exists already": [record.signature, "--out", str(tmp_path / "full")],
        "the run of these words has no record; train it": ["norm=gn", "--out", out],
        "these words are 2 runs; give one": [*SHORT, "norm=bn,gn", "--out", out],
        "--onnx needs onnx, which is not installed: pip install 'normbench[onnx]'": [
            record.signature, "--out", out, "--onnx",
        ],
    }  # fmt: skip
    for said, argv in cases.items():
        assert cli.run(["export", *argv]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    store.weights_file(record.signature).unlink()
    assert cli.run(["export", record.signature, "--out", out]) == 2
    error = capsys.readouterr().err
    assert f"keeps no final state; train it again: normbench runs rm {record.signature} --yes, then" in error
    assert "normbench train model=mlp 'model.hidden=[16]'" in error and "keep_weights=true" in error
    assert not (tmp_path / "out").exists()
    with pytest.raises(normbench.InputError, match="keeps no final state"):
        normbench.load(record)


def test_a_run_without_a_network_is_refused(trainer, capsys: Capture) -> None:
    trainer.breaks = lambda spec: True
    cli.run(["train", "norm=bn"])
    with pytest.raises(normbench.InputError, match="is failed, so it has no trained network"):
        normbench.load(trainer.trained[0].signature)


def test_every_data_set_names_its_classes(make_spec) -> None:
    for name in ("digits", "mnist", "fashion_mnist", "cifar10", "cifar100"):
        spec = make_spec(f"data={name}").data
        names = class_names(spec, data.shape_of(spec))
        assert len({*names}) == data.shape_of(spec).classes
    assert list(names) == sorted(names)  # cifar100: its authors sort them
