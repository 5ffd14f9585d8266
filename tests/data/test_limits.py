"""A small file cannot fill the memory or run for hours: limits on members, bytes, pixels and ratios."""

from __future__ import annotations

import gzip
import io
import os
import socket
import tarfile
import time
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from normbench import data, memory
from normbench.data import image, limits
from normbench.data.fingerprint import fingerprint
from normbench.data.members import members, printable
from normbench.errors import InputError


def png(width: int, height: int) -> bytes:
    """The header of a PNG of this size, with a few bytes of pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")
        )

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\0\0\0\0"
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"\0" * 64))
        + chunk(b"IEND", b"")
    )


def read_all(path: Path) -> None:
    for member in members(path):
        if member.kind == "file":
            member.read()


def test_a_first_image_of_many_pixels_is_refused_by_its_header(data_spec, pictures):
    (pictures.folder / "train" / "cat" / "0.png").write_bytes(png(12_000, 12_000))
    spec = data_spec("folder", path=pictures.folder)
    with pytest.raises(
        InputError, match=r"12000×12000 pixels must be at most 67,108,864.*NORMBENCH_MOST_PIXELS=144000000"
    ):
        data.load(spec)


def test_the_limit_of_pixels_can_be_raised_above_that_of_pillow(monkeypatch):
    monkeypatch.setenv("NORMBENCH_MOST_PIXELS", "400000000")
    assert image.look(png(20_000, 20_000))[:2] == (20_000, 20_000)


def test_content_of_a_format_that_runs_a_program_is_no_image():
    with pytest.raises(ValueError, match="the content is none of BMP, GIF"):
        image.look(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")


def test_a_member_with_too_many_bytes_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    """0.5 MB hold 512 MB of zeros."""
    archive = tmp_path / "bomb.zip"
    with (
        zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out,
        out.open("train/cat/0.png", "w", force_zip64=True) as member,
    ):
        for _ in range(300):
            member.write(b"\0" * (1 << 20))
    started = time.perf_counter()
    with pytest.raises(InputError, match=r"train/cat/0.png .* at most 268,435,456; got 314,572,800"):
        read_all(archive)
    assert time.perf_counter() - started < 1
    monkeypatch.setattr(limits, "_SMALL", 1 << 20)
    with pytest.raises(InputError, match=r"unpacks to 314,572,800 bytes or more.*NORMBENCH_MOST_RATIO"):
        read_all(archive)


@pytest.mark.parametrize("kind", ["member", "header", "tail", "skipped"])
def test_a_tar_gz_that_unpacks_to_far_more_is_refused_on_the_way(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(limits, "_SMALL", 1 << 20)
    monkeypatch.setenv("NORMBENCH_MOST_BYTES", str(1 << 20))
    archive = tmp_path / "bomb.tar.gz"
    with gzip.open(archive, "wb", compresslevel=1) as out, tarfile.open(fileobj=out, mode="w") as tar:
        info = tarfile.TarInfo("other.bin" if kind == "skipped" else "train/cat/0.png")
        info.size = {"member": 20 << 20, "skipped": 20 << 20}.get(kind, 8)
        if kind == "header":
            info.pax_headers = {"comment": "x" * (20 << 20)}
            tar.format = tarfile.PAX_FORMAT
        tar.addfile(info, io.BytesIO(b"\0" * info.size))
        if kind == "tail":
            tar.fileobj.write(b"\0" * (60 << 20))
    with pytest.raises(InputError, match=r"NORMBENCH_MOST_(BYTES|RATIO)=") as raised:
        read_all(archive)
    assert "\n" not in str(raised.value)


def test_a_sparse_file_is_refused_by_its_size(pictures, data_spec):
    with (pictures.folder / "train" / "cat" / "0.png").open("r+b") as file:
        file.truncate(1 << 40)
    started = time.perf_counter()
    with pytest.raises(InputError, match=r"train/cat/0.png of data.path=.* NORMBENCH_MOST_BYTES"):
        data_spec("folder", path=pictures.folder)
    assert time.perf_counter() - started < 2  # its bytes are not hashed


def test_too_many_members_are_refused(pictures, data_spec, monkeypatch, tmp_path):
    monkeypatch.setenv("NORMBENCH_MOST_MEMBERS", "5")
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(pictures.folder, "set")
    for path in (pictures.folder, tmp_path / "a.tar"):
        with pytest.raises(InputError, match="at most 5; got 6; NORMBENCH_MOST_MEMBERS=6 allows it"):
            read_all(Path(path))
    with pytest.raises(InputError, match="NORMBENCH_MOST_MEMBERS"):
        data_spec("folder", path=pictures.folder)


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5"])
def test_a_limit_must_be_a_whole_number(monkeypatch, value):
    monkeypatch.setenv("NORMBENCH_MOST_PIXELS", value)
    with pytest.raises(InputError, match="NORMBENCH_MOST_PIXELS must be a whole number ≥ 1"):
        limits.most("PIXELS")


@pytest.mark.parametrize("kind", ["device", "pipe", "socket"])
def test_what_is_neither_file_nor_folder_is_refused_at_once(tmp_path, kind):
    place = tmp_path / "it"
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "device":
        place.symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        if kind == "socket":
            listening.bind(str(place))
        with pytest.raises(InputError, match="must be a directory or an archive"):
            fingerprint(str(place))
        with pytest.raises(InputError, match="must be a directory or an archive"):
            read_all(place)


def test_names_of_members_carry_no_control_codes():
    assert printable("a\x1b[31mb\u202e\n.png") == r"a\x1b[31mb\u202e\n.png"


def test_data_that_do_not_fit_into_the_memory_are_refused_with_the_numbers(data_spec, pictures, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 1000)
    with pytest.raises(InputError, match=r"data=digits needs 2 MB of memory for 1,797 images.*1 kB are free"):
        data.load(data_spec("digits"), size=32)
    with pytest.raises(InputError, match=r"needs? .* of memory"):
        data.load(data_spec("folder", path=pictures.folder, stream=False))
    monkeypatch.setattr(memory, "free_bytes", lambda: 10**8)
    assert len(data.load(data_spec("digits"), size=32).train_labels) == 1297


def test_a_huge_synthetic_set_is_refused_before_it_is_made(data_spec):
    with pytest.raises(InputError, match=r"lower data.train_size, data.test_size or data.size"):
        data.load(data_spec("synthetic", train_size=10**9))


def test_a_picture_within_the_limits_is_read(tmp_path):
    stream = io.BytesIO()
    Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(stream, "PNG")
    assert image.decode(stream.getvalue(), 1, 8).tolist() == [np.arange(64).reshape(8, 8).tolist()]
