"""A user's own images: a directory or an archive with train/<class>/* and test/<class>/*, decoded once.

The arrays are kept under the results' cache, by what the files hold, and memory-mapped from then on, so that
processes share the memory of one copy.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from normbench.data.decoded import load_arrays, load_shape, save
from normbench.data.folder_index import FolderIndex, index_folder, unreadable
from normbench.data.members import members
from normbench.data.raw import Images, Raw
from normbench.data.shape import Shape
from normbench.errors import InputError
from normbench.spec import DataSpec

#: Pillow's names of what holds more than 8 bits a channel; its conversion to 8 would clip, not scale.
_DEEP = ("I", "F")


def shape(spec: DataSpec, cache: Path | None) -> Shape:
    """The whole splits' shape, from an earlier decoding or else from names and the first training image."""
    known = load_shape(_place(spec, cache))
    if known is not None:
        return known
    found = _index(spec)
    return Shape(
        channels=spec.channels if isinstance(spec.channels, int) else found.channels,
        size=spec.size if isinstance(spec.size, int) else found.side,
        classes=len(found.classes),
        train_images=found.counts["train"],
        test_images=found.counts["test"],
    )


def read(spec: DataSpec, cache: Path | None) -> Raw:
    """Both splits, decoded now or at an earlier time; see `FolderIndex` for the order of the images.

    Raises:
        InputError: what `index_folder` raises, an image cannot be decoded, or the cache cannot be written.
    """
    place = _place(spec, cache)
    raw = load_arrays(place)
    if raw is None:
        whole = shape(spec, None)
        raw = _decode(_source(spec)[0], _index(spec), whole)
        save(place, raw, whole)
    return raw


def _decode(path: str, found: FolderIndex, whole: Shape) -> Raw:
    image = (whole.channels, whole.size, whole.size)
    pixels = {s: np.empty((n, *image), np.uint8) for s, n in found.counts.items()}
    labels = {s: np.empty(n, np.int64) for s, n in found.counts.items()}
    for member in members(Path(path).expanduser()):
        place = found.places.get(member.name)
        if place is None:
            continue
        content = member.read()
        try:
            pixels[place.split][place.position] = _image(content, whole)
        except Exception as error:  # an image decoder fed with damaged bytes may raise anything
            raise unreadable(path, member.name, error) from None
        labels[place.split][place.position] = place.label
    return Raw(pixels["train"], labels["train"], pixels["test"], labels["test"])


def _image(content: bytes, whole: Shape) -> Images:
    """Decode to (C, size, size): grey or RGB, its middle square, resized bilinearly with antialiasing."""
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(content)) as opened:
        if opened.mode.startswith(_DEEP):
            raise ValueError(f"Pillow mode {opened.mode}: images must have 8 bits a channel")
        image = opened.convert("L" if whole.channels == 1 else "RGB")
    if image.size != (whole.size, whole.size):
        image = ImageOps.fit(image, (whole.size, whole.size), Image.Resampling.BILINEAR)
    return np.asarray(image).reshape(whole.size, whole.size, whole.channels).transpose(2, 0, 1)


def _index(spec: DataSpec) -> FolderIndex:
    return index_folder(*_source(spec))


def _place(spec: DataSpec, cache: Path | None) -> Path | None:
    """Where the decoded arrays of this content, side and channels are kept."""
    _, fingerprint = _source(spec)
    return cache and cache / "data" / f"{fingerprint}-{spec.size or 'auto'}x{spec.channels or 'auto'}"


def _source(spec: DataSpec) -> tuple[str, str]:
    """Path and fingerprint, which `spec.resolve` takes where there is a path."""
    if not spec.path or not spec.fingerprint:
        raise InputError(
            "data=folder needs data.path: a directory or an archive (.tar, .tar.gz, .tgz, .zip) that holds "
            "train/<class>/ and test/<class>/"
        )
    return spec.path, spec.fingerprint
