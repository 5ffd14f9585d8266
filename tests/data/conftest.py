"""Specs of data sets, and small data sets in memory and on disk."""

from __future__ import annotations

import os
import tarfile
import zipfile
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

from normbench.config.resolve import declared
from normbench.data.dataset import Dataset
from normbench.data.fingerprint import state
from normbench.data.moments import moments
from normbench.spec import DataSpec


@pytest.fixture
def data_spec():
    """Build the spec of a packaged choice with some knobs set, as `config.resolve` leaves it."""

    def build(name, **knobs):
        tree = {**declared("data", name), **knobs}
        tree.pop("numerics", None)
        tree = {knob: None if str(value).startswith(("${", "???")) else value for knob, value in tree.items()}
        if tree["path"]:
            tree["path"] = str(tree["path"])
        return DataSpec(**tree | {"fingerprint": state(tree)})

    return build


@pytest.fixture
def real_data():
    """The root of the real data files; skips the test if it lacks the file."""

    def root(file):
        place = os.environ.get("NORMBENCH_DATA")
        if not place or not (Path(place) / file).exists():
            pytest.skip(f"needs NORMBENCH_DATA to hold {file}")
        return Path(place)

    return root


@pytest.fixture
def tiny():
    """Build a resident data set of random 6×6 images."""

    def build(count=32, channels=3, size=6, tests=8):
        train, test = (torch.from_numpy(noise(n, channels, size, seed=n)) for n in (count, tests))
        mean, std = moments(train)
        return Dataset(
            "tiny",
            10,
            train,
            torch.arange(count) % 10,
            test,
            torch.arange(tests) % 10,
            mean,
            std,
            "as is (6×6)",
        )

    return build


class Pictures(NamedTuple):
    """An image folder on disk and its pixels."""

    folder: Path
    pixels: dict[str, np.ndarray]  # by name inside the folder, (3, 6, 6) uint8


@pytest.fixture
def pictures(tmp_path):
    """PNG images in train/ (4 cats, 3 dogs, 2 eels) and test/ (2 of each)."""
    pixels = {}
    for split, counts in {"train": (4, 3, 2), "test": (2, 2, 2)}.items():
        for class_name, count in zip(("cat", "dog", "eel"), counts, strict=True):
            for i, image in enumerate(noise(count, 3, 6, seed=len(pixels))):
                pixels[f"{split}/{class_name}/{i}.png"] = image
    folder = tmp_path / "pictures"
    for name, image in pixels.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(folder / name)
    return Pictures(folder, pixels)


@pytest.fixture
def pack():
    """Pack a folder as the archive's name asks for, members in reverse order, under a top-level folder."""

    def build(folder, archive, top=""):
        files = sorted((f for f in folder.rglob("*") if f.is_file()), reverse=True)
        named = [(f, f"{top}{f.relative_to(folder).as_posix()}") for f in files]
        if archive.suffix == ".zip":
            with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
                for file, name in named:
                    opened.write(file, name)
        else:
            with tarfile.open(archive, "w" if archive.suffix == ".tar" else "w:gz") as opened:
                for file, name in named:
                    opened.add(file, name)
        return archive

    return build


@pytest.fixture
def same():
    """Tell whether two data sets hold the same images and labels."""
    tensors = ("train_images", "train_labels", "test_images", "test_labels")

    def compare(one, other):
        return all(torch.equal(getattr(one, name), getattr(other, name)) for name in tensors)

    return compare


def noise(count, channels, size, seed):
    return np.random.default_rng(seed).integers(0, 256, (count, channels, size, size), dtype=np.uint8)
