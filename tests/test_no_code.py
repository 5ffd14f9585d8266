"""No file that somebody else may have written runs code: a pickle in its place is refused in one line.

Each place that reads tensors, arrays or records has a test. The list of modules that unpickle is complete.
"""

from __future__ import annotations

import ast
import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from normbench import cli
from normbench.data import decoded, sharing
from normbench.data.raw import Raw
from normbench.data.shape import Shape
from normbench.store import Store
from normbench.sweeps import checkpoints

SOURCE = Path(__file__).parents[1] / "src"
Capture = pytest.CaptureFixture[str]
QUICK = ["model=mlp", "model.hidden=[4]", "data=digits", "steps=3", "tracking=none"]
#: Modules that may unpickle, and why what they read is their own.
UNPICKLES = {
    "normbench/config/compose.py",  # bytes that it has pickled itself, in memory
    "normbench/tracking/wandb_child.py",  # the pipe from the process that started it
    "normbench/tracking/wandb_process.py",  # the pipe from the process that it started
}
#: The module that runs source: what torch.fx has written from the operations of a step, never a file.
RUNS_SOURCE = "normbench/engine/recording.py"


class Code:
    """Pickled, it is a call that makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def code(tmp_path: Path) -> Code:
    return Code(tmp_path / "ran")


@pytest.fixture(params=["pickle", "torch", "numpy"])
def content(request: pytest.FixtureRequest, code: Code) -> bytes:
    """A file with code: a bare pickle, what `torch.save` writes, or what `np.save` writes."""
    stream = io.BytesIO()
    if request.param == "torch":
        torch.save({"format": code, "weight": code}, stream)
    elif request.param == "numpy":
        np.save(stream, np.array([code], dtype=object), allow_pickle=True)
    else:
        pickle.dump(code, stream)
    return stream.getvalue()


@pytest.fixture(autouse=True)
def nothing_ran(code: Code):
    yield
    assert not code.mark.exists(), "the code in a file was run"


def refused(capsys: Capture, *words: str, code: int = 2) -> str:
    """What a command says that must be refused in one line."""
    assert cli.run(list(words)) == code
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: "), lines
    return lines[0]


def test_the_code_of_these_tests_works(tmp_path: Path) -> None:
    """A file with code does run, if it is unpickled. Otherwise the other tests could not fail."""
    other = tmp_path / "other"
    pickle.loads(pickle.dumps(Code(other)))
    assert other.is_dir()


def test_a_checkpoint_is_set_aside(content: bytes, make_spec: Callable[..., object]) -> None:
    spec, store, said = make_spec(*QUICK), Store.default(), []
    file = store.checkpoint_file(spec.signature)
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    assert checkpoints.load(spec, 3, store, said.append) is None
    [line] = said
    assert "starts from step 0: its checkpoint does not fit: it cannot be read" in line
    assert not file.exists()


def test_weights_to_start_from_are_refused(content: bytes, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "weights.safetensors"
    file.write_bytes(content)
    said = refused(capsys, "plan", *QUICK, f"model.weights={file}")
    assert "must be a safetensors file" in said


def test_a_final_state_is_not_exported(content: bytes, trainer, tmp_path: Path, capsys: Capture) -> None:
    assert cli.run(["train", *QUICK]) == 0
    [spec] = trainer.trained
    Store.default().weights_file(spec.signature).write_bytes(content)
    capsys.readouterr()
    said = refused(capsys, "export", spec.signature, "--out", str(tmp_path / "out"))
    assert "cannot be read" in said and "remove it" in said


def test_a_copy_of_decoded_images_is_decoded_again(content: bytes, tmp_path: Path) -> None:
    images, labels = np.zeros((4, 1, 8, 8), np.uint8), np.zeros(4, np.int64)
    raw, shape = Raw(images, labels, images, labels), Shape(1, 8, 2, 4, 4)
    decoded.save(tmp_path / "copy", raw, shape)
    assert decoded.load_arrays(tmp_path / "copy") is not None
    (tmp_path / "copy" / "train_images.npy").write_bytes(content)
    assert decoded.load_arrays(tmp_path / "copy") is None
    np.save(tmp_path / "copy" / "train_images.npy", images.astype(np.float64))
    assert decoded.load_arrays(tmp_path / "copy") is None
    found = decoded.load_or_read(tmp_path / "copy", shape, lambda: raw)
    assert found.train_images is images


def test_shared_images_are_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "train_images.npy"
    file.write_bytes(content)
    with pytest.raises(ValueError, match=r"pickle|Object arrays|no \.npy file"):
        sharing._mapped(file)


def test_files_of_cifar_that_are_not_the_published_ones_are_refused(
    content: bytes, tmp_path: Path, capsys: Capture
) -> None:
    folder = tmp_path / "data" / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch", "batches.meta"):
        (folder / name).write_bytes(content)
    words = ["data=cifar10", f"data.root={tmp_path / 'data'}", "data.download=false"]
    assert "cifar10" in refused(capsys, "train", "model=mlp", "steps=1", "tracking=none", *words)


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("name", ["x.png", "x.npy", "x.pkl", "x.pt"])
def test_members_of_image_folders_are_refused_or_left_out(
    content: bytes, name: str, packed: bool, tmp_path: Path, capsys: Capture
) -> None:
    picture = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(picture, "PNG")
    root = tmp_path / "mine"
    for split in ("train", "test"):
        for kind in ("a", "b"):
            (root / split / kind).mkdir(parents=True)
            for number in range(4):
                (root / split / kind / f"{number}.png").write_bytes(picture.getvalue())
    (root / "train" / "a" / name).write_bytes(content)
    if packed:
        with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
            for file in sorted(root.rglob("*.*")):
                archive.write(file, file.relative_to(root))
        root = tmp_path / "mine.zip"
    code = cli.run(["plan", "model=mlp", "steps=1", "tracking=none", "data=folder", f"data.path={root}"])
    said = capsys.readouterr().err.splitlines()
    if name == "x.png":
        assert code == 2 and len(said) == 1 and "x.png" in said[0]
    else:
        assert code in (0, 2) and len(said) <= 1


@pytest.mark.parametrize("file", ["record.json", "tags.json", "history.jsonl", "lease.json"])
def test_damaged_files_of_a_run_are_named(content: bytes, file: str, trainer, capsys: Capture) -> None:
    assert cli.run(["train", *QUICK]) == 0
    [spec] = trainer.trained
    (Store.default().run_folder(spec.signature) / file).write_bytes(content)
    capsys.readouterr()
    assert cli.run(["runs"]) in (0, 2)
    assert all(line.startswith(("warning: ", "error: ")) for line in capsys.readouterr().err.splitlines())


def _calls(tree: ast.AST) -> list[tuple[str, ast.Call]]:
    return [(ast.unparse(node.func), node) for node in ast.walk(tree) if isinstance(node, ast.Call)]


def _given(call: ast.Call, name: str) -> object:
    values = [each.value for each in call.keywords if each.arg == name]
    return ast.literal_eval(values[0]) if values else None


def test_every_place_that_could_unpickle_is_known() -> None:
    unpickles = set()
    for file in SOURCE.rglob("*.py"):
        name, tree = file.relative_to(SOURCE).as_posix(), ast.parse(file.read_text())
        for function, call in _calls(tree):
            if function == "torch.load":
                assert _given(call, "weights_only") is True, name
            if function == "np.load":
                assert not _given(call, "allow_pickle"), name
            assert function not in ("eval", "yaml.load", "yaml.unsafe_load"), name
            assert function != "exec" or name == RUNS_SOURCE, name
            if function in ("pickle.load", "pickle.loads", "pickle.Unpickler"):
                unpickles.add(name)
        modules = {
            alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
        }
        assert not modules & {"shelve", "marshal", "joblib", "dill", "cloudpickle"}, name
    assert unpickles == UNPICKLES


def test_a_record_is_plain_text(trainer) -> None:
    assert cli.run(["train", *QUICK]) == 0
    [spec] = trainer.trained
    json.loads((Store.default().run_folder(spec.signature) / "record.json").read_text())
