"""Streaming: images of a folder that are read while a network trains (docs/decisions/013).

`data.stream` chooses: true, false, or auto, which streams images that would take more than SHARE of the free
memory. Streamed images are the same bits as loaded ones, so nothing of this is part of a run's signature.
Random resized crops (`data.resized_crop`) need the images as they are stored, so they are always streamed.

Without such crops, images are decoded once into the cache if its disk has room, and rows of that copy are
read. Otherwise every use of an image decodes its file.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import ExitStack
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from normbench import memory
from normbench.data import file_table, folder
from normbench.data.decoded import About, array_file, load_about, load_arrays, save_written
from normbench.data.file_table import SPLITS, FileTable
from normbench.data.fingerprint import check_unchanged
from normbench.data.folder_index import index_folder
from normbench.data.raw import Labels
from normbench.data.read_ahead import Readers
from normbench.data.shape import Shape
from normbench.data.shapes import shape_of
from normbench.data.stored_images import ArrayWriter, CopiedImages, ImageFiles, StoredImages
from normbench.data.streamed import StreamedImages, in_blocks
from normbench.errors import InputError
from normbench.spec import DataSpec

#: Loaded images may take this share of the free memory. The rest is for networks and for other programs.
SHARE = 0.5
#: A decoded copy may take this share of the free bytes of its disk.
DISK_SHARE = 0.5


class StreamedSplits(NamedTuple):
    """The whole splits of a folder, fitted to the model."""

    train: StreamedImages
    train_labels: Tensor
    test: StreamedImages
    test_labels: Tensor
    note: str  # see `Raw.note`


@lru_cache(maxsize=64)  # the free memory of later calls is less by what was loaded, so the first one counts
def why_streamed(spec: DataSpec, size: int | None, cache: Path | None, free: int | None) -> str:
    """The reason why the images of a run are streamed; empty if they are loaded.

    Args:
        size: side that the model wants.
        free: bytes that are free on the device of the training; None: it is the CPU.

    Raises:
        InputError: what `shapes.shape_of` raises.
    """
    if spec.name != "folder" or spec.stream is False:
        return ""
    if spec.resized_crop:
        return "data.resized_crop takes crops of the stored images"
    if spec.stream is True:
        return "data.stream=true"
    shape = shape_of(spec, cache)
    images = shape.train_images + shape.valid_images + shape.test_images
    fitted = images * shape.channels * (size or shape.size) ** 2
    decoded = 0 if size in (None, shape.size) else images * shape.channels * shape.size**2
    for needed, room in ((fitted + decoded, memory.free_bytes()), (fitted, free)):
        if room is not None and needed > SHARE * room:
            return f"they take {memory.size(needed)} of memory, and {memory.size(room)} are free"
    return ""


def splits(spec: DataSpec, size: int | None, cache: Path | None) -> StreamedSplits:
    """Both whole splits of a folder. Nothing but labels and names is in memory.

    Raises:
        InputError: an image cannot be decoded, an archive cannot be streamed, or what `index_folder` raises.
    """
    readers: Readers = "auto" if spec.readers is None else spec.readers
    kept = folder.place(spec, cache)
    if not spec.resized_crop and kept is not None and (load_arrays(kept) is not None or _fits(spec, kept)):
        labels, about = _copy(spec, kept, cache, readers)
        channels, side = about.shape.channels, about.shape.size
        train, test = (
            CopiedImages(array_file(kept, f"{split}_images"), channels, side, size) for split in SPLITS
        )
        return _splits(train, test, labels, about.note, readers, 0.0)
    _refuse_archive(spec)
    table = _table(spec, cache)
    files = _files(spec, table, size)
    crops = spec.resized_crop or 0.0
    return _splits(files["train"], files["test"], table.labels, table.about.note, readers, crops)


def _splits(
    train: StoredImages,
    test: StoredImages,
    labels: dict[str, Labels],
    note: str,
    readers: Readers,
    crops: float,
) -> StreamedSplits:
    return StreamedSplits(
        StreamedImages(train, np.arange(len(labels["train"])), readers, crops),
        torch.from_numpy(labels["train"]),
        StreamedImages(test, np.arange(len(labels["test"])), readers),
        torch.from_numpy(labels["test"]),
        note,
    )


def _fits(spec: DataSpec, kept: Path) -> bool:
    """Whether the disk has room for a decoded copy."""
    whole = folder.shape(spec, kept.parents[1])
    needed = (whole.train_images + whole.test_images) * whole.channels * whole.size**2
    nearest = next(each for each in kept.parents if each.exists())
    return needed <= DISK_SHARE * shutil.disk_usage(nearest).free


def _is_directory(spec: DataSpec) -> bool:
    return Path(folder.source(spec)[0]).expanduser().is_dir()


def _refuse_archive(spec: DataSpec) -> None:
    if not _is_directory(spec):
        why = (
            "data.resized_crop reads"
            if spec.resized_crop
            else "the disk has no room to decode it, which needs"
        )
        raise InputError(
            f"data.path={spec.path} is an archive, but {why} single files; unpack it, and give the directory"
        )


def _table(spec: DataSpec, cache: Path | None) -> FileTable:
    """The files of a directory, from an earlier command or else from all names and headers."""
    file = folder.table_file(spec, cache)
    table = file_table.load(file)
    if table is None:
        table = file_table.table_of(index_folder(*folder.source(spec)), folder.about(spec))
        check_unchanged(spec.model_dump(), spec.fingerprint, cache)
        file_table.save(file, table)
        index_folder.cache_clear()  # it holds several objects per image
    return table


def _files(spec: DataSpec, table: FileTable, size: int | None) -> dict[str, ImageFiles]:
    """The files by split."""
    path, center, whole = folder.source(spec)[0], spec.center_crop or 1.0, table.about.shape
    return {
        split: ImageFiles(path, table.names[split], center, whole.channels, whole.size, size)
        for split in SPLITS
    }


def _copy(
    spec: DataSpec, kept: Path, cache: Path | None, readers: Readers
) -> tuple[dict[str, Labels], About]:
    """The labels of both splits, and shape and note, of the decoded copy. It is made if there is none."""
    about, arrays = load_about(kept), load_arrays(kept)
    if about is None or arrays is None:
        if _is_directory(spec):
            table = _table(spec, cache)
            about, write = table.about, partial(_write_files, _files(spec, table, None), table, readers)
        else:
            about = folder.about(spec)
            write = partial(_write_archive, spec, about.shape)
        save_written(kept, about, partial(_write_unchanged, spec, cache, write))
        arrays = load_arrays(kept)
        if arrays is None:
            raise InputError(f"the decoded images in {kept} were removed meanwhile; repeat the command")
    return {"train": np.array(arrays.train_labels), "test": np.array(arrays.test_labels)}, about


def _write_unchanged(spec: DataSpec, cache: Path | None, write: Callable[[Path], None], draft: Path) -> None:
    """Write a copy, and refuse to keep it if the images changed meanwhile."""
    write(draft)
    check_unchanged(spec.model_dump(), spec.fingerprint, cache)


def _write_files(files: dict[str, ImageFiles], table: FileTable, readers: Readers, draft: Path) -> None:
    """Decode the files of a directory into arrays, some at a time."""
    for split, images in files.items():
        with ArrayWriter(array_file(draft, f"{split}_images"), len(table.labels[split]), images.shape) as to:
            everything = StreamedImages(images, np.arange(len(table.labels[split])), readers)
            written = 0
            for block in in_blocks(everything):
                to.write(written, block.numpy())
                written += len(block)
        np.save(array_file(draft, f"{split}_labels"), table.labels[split])


def _write_archive(spec: DataSpec, whole: Shape, draft: Path) -> None:
    """Decode the members of an archive into arrays, one at a time, in the order of the archive."""
    found, image = index_folder(*folder.source(spec)), (whole.channels, whole.size, whole.size)
    with ExitStack() as files:
        to = {
            split: files.enter_context(ArrayWriter(array_file(draft, f"{split}_images"), count, image))
            for split, count in found.counts.items()
        }
        labels = folder.decode_all(spec, found, whole, lambda split, at, pixels: to[split].write(at, pixels))
    for split, each in labels.items():
        np.save(array_file(draft, f"{split}_labels"), each)
