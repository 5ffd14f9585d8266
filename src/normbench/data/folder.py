"""A user's own images: a directory or an archive with train/<class>/* and test/<class>/*, decoded once.

The arrays are kept in the results' cache under the hash of the content. Later runs memory-map them, so
processes share one copy in memory.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from normbench import memory
from normbench.data import image
from normbench.data.decoded import load_about, load_arrays, save
from normbench.data.fingerprint import check_unchanged
from normbench.data.folder_index import FolderIndex, index_folder
from normbench.data.folder_scan import unreadable
from normbench.data.members import keyed_members
from normbench.data.raw import Raw
from normbench.data.shape import Shape
from normbench.errors import InputError
from normbench.spec import DataSpec

#: Raise it if the same files give other pixels or another order. Then copies decoded earlier are not used.
_VERSION = 2


def shape(spec: DataSpec, cache: Path | None) -> Shape:
    """The shape of the whole splits, from an earlier decoding or else from all names and image headers."""
    known = load_about(_place(spec, cache))
    if known is not None:
        return known.shape
    found = index_folder(*_source(spec))
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
        InputError: what `index_folder` raises, an image cannot be decoded, the data changed since the spec
            was made, or the cache cannot be written.
    """
    place = _place(spec, cache)
    raw = load_arrays(place)
    if raw is None:
        whole, found = shape(spec, None), index_folder(*_source(spec))
        note = found.decisions(
            whole.size,
            whole.channels,
            auto_side=not isinstance(spec.size, int),
            auto_channels=not isinstance(spec.channels, int),
        )
        with image.without_warnings():
            raw = _decode(_source(spec)[0], found, whole)._replace(note=note)
        check_unchanged(spec.model_dump(), spec.fingerprint, cache)
        save(place, raw, whole)
    return raw


def _decode(path: str, found: FolderIndex, whole: Shape) -> Raw:
    side = (whole.channels, whole.size, whole.size)
    needed = sum(found.counts.values()) * whole.channels * whole.size**2
    if needed > (free := memory.free_bytes()):
        raise InputError(
            f"the images of data.path={path} need {memory.size(needed)} of memory at "
            f"{whole.size}×{whole.size}; {memory.size(free)} are free; give a smaller data.size, or free some"
        )
    pixels = {s: np.empty((n, *side), np.uint8) for s, n in found.counts.items()}
    labels = {s: np.full(n, -1, np.int64) for s, n in found.counts.items()}
    for key, member in keyed_members(Path(path).expanduser()):
        places = found.places.get(key, ())
        if not places:
            continue
        content = member.read()
        try:
            decoded = image.decode(content, whole.channels, whole.size)
        except Exception as error:  # an image decoder fed with damaged bytes may raise anything
            raise unreadable(path, member.name, error) from None
        for place in places:
            pixels[place.split][place.position] = decoded
            labels[place.split][place.position] = place.label
    absent = sum(int((split < 0).sum()) for split in labels.values())
    if absent:
        raise InputError(
            f"data.path={path} must not change while it is read; {absent} images are missing now; repeat the "
            "command"
        )
    return Raw(pixels["train"], labels["train"], pixels["test"], labels["test"])


def _place(spec: DataSpec, cache: Path | None) -> Path | None:
    """Where the decoded arrays of this content, side and channels are kept."""
    _, fingerprint = _source(spec)
    knobs = f"{spec.size or 'auto'}x{spec.channels or 'auto'}"
    return cache and cache / "data" / f"{fingerprint}-{knobs}-v{_VERSION}"


def _source(spec: DataSpec) -> tuple[str, str]:
    """Path and fingerprint. `normbench.config.resolve` sets the fingerprint if there is a path."""
    if not spec.path or not spec.fingerprint:
        raise InputError(
            "data=folder needs data.path: a directory or an archive (.tar, .tar.gz, .tgz, .zip) that holds "
            "train/<class>/ and test/<class>/"
        )
    return spec.path, spec.fingerprint
