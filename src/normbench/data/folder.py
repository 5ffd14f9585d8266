"""A user's own images: a directory or an archive with train/<class>/* and test/<class>/*, decoded once.

The arrays are kept in the results' cache under the hash of the content. Later runs memory-map them, so
processes share one copy in memory.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from normbench import memory
from normbench.data import file_table, image
from normbench.data.decoded import About, load_about, load_arrays, save
from normbench.data.fingerprint import check_unchanged
from normbench.data.folder_index import FolderIndex, index_folder
from normbench.data.folder_scan import unreadable
from normbench.data.members import keyed_members
from normbench.data.raw import Images, Labels, Raw
from normbench.data.shape import Shape
from normbench.errors import InputError
from normbench.spec import DataSpec

#: Raise it if the same files give other pixels or another order. Then copies decoded earlier are not used.
_VERSION = 2


def shape(spec: DataSpec, cache: Path | None) -> Shape:
    """The shape of the whole splits, from an earlier decoding or else from all names and image headers."""
    known = load_about(place(spec, cache)) or file_table.load_about(table_file(spec, cache))
    return known.shape if known is not None else _shape(spec)


def _shape(spec: DataSpec) -> Shape:
    found = index_folder(*source(spec))
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
    kept = place(spec, cache)
    raw = load_arrays(kept)
    if raw is None:
        known, found = about(spec), index_folder(*source(spec))
        raw = _decode(spec, found, known.shape)._replace(note=known.note)
        check_unchanged(spec.model_dump(), spec.fingerprint, cache)
        save(kept, raw, known.shape)
    return raw


def about(spec: DataSpec) -> About:
    """Shape and note of the whole splits, from all names and image headers."""
    whole, found = _shape(spec), index_folder(*source(spec))
    note = found.decisions(
        whole.size,
        whole.channels,
        auto_side=not isinstance(spec.size, int),
        auto_channels=not isinstance(spec.channels, int),
    )
    return About(whole, note)


def _decode(spec: DataSpec, found: FolderIndex, whole: Shape) -> Raw:
    path, side = source(spec)[0], (whole.channels, whole.size, whole.size)
    needed = sum(found.counts.values()) * whole.channels * whole.size**2
    if needed > (free := memory.free_bytes()):
        raise InputError(
            f"the images of data.path={path} need {memory.size(needed)} of memory at "
            f"{whole.size}×{whole.size}; {memory.size(free)} are free; give data.stream=true or a smaller "
            "data.size, or free some"
        )
    pixels = {s: np.empty((n, *side), np.uint8) for s, n in found.counts.items()}

    def keep(split: str, position: int, decoded: Images) -> None:
        pixels[split][position] = decoded

    labels = decode_all(spec, found, whole, keep)
    return Raw(pixels["train"], labels["train"], pixels["test"], labels["test"])


def decode_all(
    spec: DataSpec, found: FolderIndex, whole: Shape, keep: Callable[[str, int, Images], None]
) -> dict[str, Labels]:
    """Decode every image once, in the order of the archive or directory. Return the labels of each split.

    Args:
        keep: gets the split, the position in it and the pixels of every image.
    """
    path = source(spec)[0]
    labels = {s: np.full(n, -1, np.int64) for s, n in found.counts.items()}
    with image.without_warnings():
        for key, member in keyed_members(Path(path).expanduser()):
            places = found.places.get(key, ())
            if not places:
                continue
            content = member.read()
            try:
                decoded = image.decode(content, whole.channels, whole.size, spec.center_crop or 1.0)
            except Exception as error:  # an image decoder fed with damaged bytes may raise anything
                raise unreadable(path, member.name, error) from None
            for here in places:
                keep(here.split, here.position, decoded)
                labels[here.split][here.position] = here.label
    absent = sum(int((split < 0).sum()) for split in labels.values())
    if absent:
        raise InputError(
            f"data.path={path} must not change while it is read; {absent} images are missing now; repeat the "
            "command"
        )
    return labels


def place(spec: DataSpec, cache: Path | None) -> Path | None:
    """Where the decoded arrays of this content, side, channels and middle square are kept."""
    _, fingerprint = source(spec)
    knobs = f"{spec.size or 'auto'}x{spec.channels or 'auto'}"
    if spec.center_crop not in (None, 1.0):
        knobs += f"-center{spec.center_crop!r}"
    return cache and cache / "data" / f"{fingerprint}-{knobs}-v{_VERSION}"


def table_file(spec: DataSpec, cache: Path | None) -> Path | None:
    """Where the list of the files of this content is kept; it has the side and channels, too."""
    kept = place(spec, cache)
    return kept and kept.with_name(f"{kept.name}-files.npz")


def source(spec: DataSpec) -> tuple[str, str]:
    """Path and fingerprint. `normbench.config.resolve` sets the fingerprint if there is a path."""
    if not spec.path or not spec.fingerprint:
        raise InputError(
            "data=folder needs data.path: a directory or an archive (.tar, .tar.gz, .tgz, .zip) that holds "
            "train/<class>/ and test/<class>/"
        )
    return spec.path, spec.fingerprint
