"""MNIST, Fashion-MNIST and CIFAR from files in their true formats: used if they exist, else downloaded."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import io
import os
import pickle
import re
import socket
import tarfile
import threading

import numpy as np
import pytest
import torch
from torchvision import datasets

from normbench import data
from normbench.data import download, published
from normbench.data.shape import KNOWN, Shape
from normbench.errors import InputError

TRAIN, TEST = 20, 10
NOWHERE = "http://127.0.0.1:9/"  # the discard port: refused at once


def noise(*shape):
    return np.random.default_rng(len(shape)).integers(0, 256, shape, dtype=np.uint8)


def md5(content):
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def idx(array):
    """LeCun's format: two zeros, 8 for uint8, the number of axes, each length in four bytes, the numbers."""
    return (
        bytes((0, 0, 8, array.ndim)) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()
    )


@pytest.fixture
def mnist_files(monkeypatch):
    """Contents of the four idx files by name; these are declared to be the published ones."""
    files = {
        "train-images-idx3-ubyte": idx(noise(TRAIN, 28, 28)),
        "train-labels-idx1-ubyte": idx(noise(TRAIN) % 10),
        "t10k-images-idx3-ubyte": idx(noise(TEST, 28, 28)),
        "t10k-labels-idx1-ubyte": idx(noise(TEST) % 10),
    }
    for name in ("mnist", "fashion_mnist"):
        monkeypatch.setitem(KNOWN, name, Shape(1, 28, 10, TRAIN, TEST))
        monkeypatch.setitem(published.IDX_MD5, name, {file: md5(content) for file, content in files.items()})
    return files


def write(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def old_pickle(batch):
    """Protocol 2 with the module name and the dtype flags of 2009, as in CIFAR's files."""
    content = pickle.dumps(batch, protocol=2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    return re.sub(rb"(u1q.)\x89\x88", b"\\1K\x00K\x01", content, flags=re.DOTALL)


@pytest.fixture
def cifar(monkeypatch):
    """Build a CIFAR data set: torchvision's class, set to its checksums, file contents, images and labels."""

    def build(name):
        many = name == "cifar100"
        source, key = (datasets.CIFAR100, "fine_labels") if many else (datasets.CIFAR10, "labels")
        parts = ["train"] if many else [f"data_batch_{i}" for i in range(1, 6)]
        tests, meta = ("test", "meta") if many else ("test_batch", "batches.meta")
        pixels, labels = noise(TRAIN + TEST, 3 * 32 * 32), (np.arange(TRAIN + TEST) % 10).tolist()
        cuts = np.split(np.arange(TRAIN), len(parts))
        files = {
            part: old_pickle({"data": pixels[cut], key: [labels[i] for i in cut]})
            for part, cut in zip(parts, cuts, strict=True)
        }
        files[tests] = old_pickle({"data": pixels[TRAIN:], key: labels[TRAIN:]})
        names = "fine_label_names" if many else "label_names"
        files[meta] = pickle.dumps({names: [str(i) for i in range(10)]}, protocol=2)
        monkeypatch.setattr(source, "train_list", [[part, md5(files[part])] for part in parts])
        monkeypatch.setattr(source, "test_list", [[tests, md5(files[tests])]])
        monkeypatch.setattr(source, "meta", {"filename": meta, "key": names, "md5": md5(files[meta])})
        monkeypatch.setitem(KNOWN, name, Shape(3, 32, 100 if many else 10, TRAIN, TEST))
        return source, files, pixels.reshape(-1, 3, 32, 32), labels

    return build


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")])
def test_idx_files_are_read_in_their_order(data_spec, tmp_path, mnist_files, name, folder):
    write(tmp_path / folder / "raw", mnist_files)
    dataset = data.load(data_spec(name, root=str(tmp_path)))
    assert torch.equal(dataset.train_images, torch.from_numpy(noise(TRAIN, 28, 28))[:, None])
    assert torch.equal(dataset.test_images, torch.from_numpy(noise(TEST, 28, 28))[:, None])
    assert dataset.train_labels.tolist() == (noise(TRAIN) % 10).tolist()
    assert dataset.test_labels.tolist() == (noise(TEST) % 10).tolist()


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_batches_are_read_in_their_order(data_spec, tmp_path, cifar, name):
    source, files, pixels, labels = cifar(name)
    write(tmp_path / source.base_folder, files)
    dataset = data.load(data_spec(name, root=str(tmp_path), download=False))
    assert torch.equal(torch.cat((dataset.train_images, dataset.test_images)), torch.from_numpy(pixels))
    assert dataset.train_labels.tolist() + dataset.test_labels.tolist() == labels
    assert dataset.classes == (100 if name == "cifar100" else 10)


def test_a_copy_of_cifar_belongs_to_the_content_of_its_files(data_spec, tmp_path, cifar, monkeypatch, same):
    source, files, _, _ = cifar("cifar10")
    folder, cache = tmp_path / source.base_folder, tmp_path / "cache"
    write(folder, files)
    spec = data_spec("cifar10", root=str(tmp_path), download=False)
    first = data.load(spec, cache=cache)
    with monkeypatch.context() as patch:
        patch.delattr(datasets, "CIFAR10")
        assert same(data.load(spec, cache=cache), first)
    before = (folder / "test_batch").stat()
    write(folder, {"test_batch": files["test_batch"].replace(files["test_batch"][-400:-300], bytes(100))})
    os.utime(folder / "test_batch", ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(InputError, match=r"no whole copy of data=cifar10 .*\(test_batch: damaged"):
        data.load(spec, cache=cache)


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(data_spec, tmp_path, mnist_files):
    write(tmp_path / "MNIST" / "raw", mnist_files)
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert (
        len(data.load(data_spec("mnist", root=str(tmp_path)), cache=tmp_path / "cache").test_labels) == TEST
    )


def test_real_mnist_begins_with_5_0_4_1_9(data_spec, real_data):
    root = real_data("MNIST/raw/train-images-idx3-ubyte")
    dataset = data.load(data_spec("mnist", root=str(root), download=False))
    assert dataset.train_labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert dataset.shape == KNOWN["mnist"]
    assert dataset.mean == pytest.approx([0.1307], abs=1e-4)  # the usual constants
    assert dataset.std == pytest.approx([0.3081], abs=1e-4)


LAYOUT = {
    "mnist": "MNIST/raw/train-images-idx3-ubyte there and beside it train-labels-idx1-ubyte, t10k-images",
    "cifar10": "cifar-10-batches-py/data_batch_1 there and beside it data_batch_2,",
    "cifar100": "cifar-100-python/train there and beside it test, meta",
}


@pytest.mark.parametrize("name", LAYOUT)
def test_absent_files_are_named_where_download_is_off(data_spec, tmp_path, name):
    root = tmp_path / "nothing"
    with pytest.raises(InputError) as raised:
        data.load(data_spec(name, root=str(root), download=False))
    assert str(raised.value).startswith(
        f"no whole copy of data={name} under data.root={root}, and data.download=false"
    )
    assert f"put {root}/{LAYOUT[name]}" in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", LAYOUT)
def test_without_a_network_nothing_is_left_behind(data_spec, tmp_path, monkeypatch, name):
    monkeypatch.setattr(datasets.MNIST, "mirrors", [NOWHERE, NOWHERE])
    for source in (datasets.CIFAR10, datasets.CIFAR100):
        monkeypatch.setattr(source, "url", NOWHERE)
    with pytest.raises(InputError, match=r"its download failed: .*refused.* put ") as raised:
        data.load(data_spec(name, root=str(tmp_path / "new" / "root")))
    assert "\n" not in str(raised.value)
    assert not list(tmp_path.iterdir())


def test_a_server_that_never_answers_is_given_up(data_spec, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        monkeypatch.setattr(datasets.MNIST, "mirrors", [f"http://127.0.0.1:{deaf.getsockname()[1]}/"])
        with pytest.raises(InputError, match=r"its download failed: .*timed out"):
            data.load(data_spec("mnist", root=str(tmp_path)))
    assert socket.getdefaulttimeout() is None


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    """Requests to this machine do not use a proxy."""
    monkeypatch.setenv("no_proxy", "*")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        """Print nothing."""


@pytest.fixture
def mirror(tmp_path, monkeypatch, mnist_files):
    """A folder that a local server offers as MNIST's mirror."""
    packed = {f"{name}.gz": gzip.compress(content) for name, content in mnist_files.items()}
    write(tmp_path / "mirror", packed)
    handler = functools.partial(Quiet, directory=tmp_path / "mirror")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        monkeypatch.setattr(datasets.MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
        monkeypatch.setattr(datasets.MNIST, "resources", [(name, md5(c)) for name, c in packed.items()])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield tmp_path / "mirror"
        server.shutdown()
        thread.join()


def test_what_is_absent_is_fetched_whole(data_spec, tmp_path, mirror, mnist_files):
    root = tmp_path / "new" / "root"
    assert len(data.load(data_spec("mnist", root=str(root))).train_images) == TRAIN
    assert [p.name for p in root.iterdir()] == ["MNIST"]
    assert {p.name: p.read_bytes() for p in (root / "MNIST" / "raw").iterdir()} == mnist_files


def test_a_part_that_is_there_is_completed(data_spec, tmp_path, mirror, mnist_files):
    write(tmp_path / "MNIST" / "raw", dict([*mnist_files.items()][:2]))
    assert len(data.load(data_spec("mnist", root=str(tmp_path))).train_images) == TRAIN


def test_files_that_are_there_are_not_fetched_again(data_spec, tmp_path, monkeypatch, mnist_files):
    monkeypatch.setattr(datasets.MNIST, "mirrors", [NOWHERE])
    write(tmp_path / "MNIST" / "raw", mnist_files)
    assert len(data.load(data_spec("mnist", root=str(tmp_path))).train_images) == TRAIN


def test_a_download_with_a_wrong_checksum_does_not_become_data(data_spec, tmp_path, mirror):
    (mirror / "t10k-labels-idx1-ubyte.gz").write_bytes(b"something else")
    with pytest.raises(InputError, match="its download failed: File not found or corrupted"):
        data.load(data_spec("mnist", root=str(tmp_path / "root")))
    assert not (tmp_path / "root").exists()


def test_an_interrupted_download_does_not_become_data(tmp_path):
    def source(root, download):
        write(root / "MNIST" / "raw", {"train-images-idx3-ubyte": b"half of it"})
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        download.fetch(source, tmp_path / "root", ())
    assert not list(tmp_path.iterdir())


def test_an_archive_that_lies_under_the_root_is_unpacked_without_a_network(
    data_spec, tmp_path, monkeypatch, cifar
):
    source, files, _, _ = cifar("cifar10")
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    monkeypatch.setattr(source, "url", NOWHERE)
    monkeypatch.setattr(source, "tgz_md5", md5((tmp_path / "cifar-10-python.tar.gz").read_bytes()))
    assert len(data.load(data_spec("cifar10", root=str(tmp_path))).train_images) == TRAIN


@pytest.mark.parametrize("left", [0, 10])
@pytest.mark.parametrize(
    "torn", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte"]
)
def test_a_torn_file_is_reported_with_its_place(data_spec, tmp_path, mnist_files, torn, left):
    write(tmp_path / "MNIST" / "raw", {**mnist_files, torn: mnist_files[torn][:left]})
    with pytest.raises(InputError, match=rf"data=mnist in {tmp_path}/MNIST/raw are damaged .*remove them"):
        data.load(data_spec("mnist", root=str(tmp_path)))


def test_another_data_set_under_the_name_is_refused(data_spec, tmp_path, mnist_files):
    write(tmp_path / "MNIST" / "raw", {**mnist_files, "t10k-images-idx3-ubyte": idx(noise(TEST + 1, 28, 28))})
    with pytest.raises(
        InputError, match="t10k-images-idx3-ubyte must hold 10×28×28 numbers; it holds 11×28×28"
    ):
        data.load(data_spec("mnist", root=str(tmp_path)))


def test_a_damaged_cifar_batch_is_not_read(data_spec, tmp_path, cifar):
    source, files, _, _ = cifar("cifar10")
    write(tmp_path / source.base_folder, {**files, "data_batch_3": files["data_batch_3"][:-1] + b"!"})
    with pytest.raises(
        InputError, match=r"no whole copy of data=cifar10 .*\(data_batch_3: damaged, the checksum"
    ):
        data.load(data_spec("cifar10", root=str(tmp_path), download=False))


def replaced(content, start, new):
    return content[:start] + new + content[start + len(new) :]


@pytest.mark.parametrize("split", ["train", "t10k"])
@pytest.mark.parametrize("label", [10, 200, 255])
def test_a_label_that_cannot_be_is_refused(data_spec, tmp_path, mnist_files, split, label):
    """Also if no file is the published one."""
    name = f"{split}-labels-idx1-ubyte"
    files = own(mnist_files)
    write(tmp_path / "MNIST" / "raw", {**files, name: replaced(files[name], 13, bytes([label]))})
    with pytest.raises(InputError, match=rf"labels must be 0 … 9; label 5 of {name} is {label}"):
        data_spec("mnist", root=str(tmp_path))


@pytest.mark.parametrize("split", ["train", "t10k"])
def test_images_that_are_mostly_zeros_are_refused(data_spec, tmp_path, mnist_files, split):
    name, files = f"{split}-images-idx3-ubyte", own(mnist_files)
    zeros = bytes(int(0.95 * len(files[name])))
    write(
        tmp_path / "MNIST" / "raw",
        {**files, name: replaced(files[name], len(files[name]) - len(zeros), zeros)},
    )
    with pytest.raises(InputError, match=rf"damaged \(9\d\.0% of the images in {name} are blank"):
        data_spec("mnist", root=str(tmp_path))


def test_labels_that_are_mostly_zeros_are_refused(data_spec, tmp_path, mnist_files):
    files = own(mnist_files)
    labels = idx(np.array([3] + [0] * (TRAIN - 1), np.uint8))
    write(tmp_path / "MNIST" / "raw", {**files, "train-labels-idx1-ubyte": labels})
    with pytest.raises(InputError, match=r"95\.0% of the labels in train-labels-idx1-ubyte are equal"):
        data_spec("mnist", root=str(tmp_path))


@pytest.mark.parametrize("change", [lambda c: c + b"\0", lambda c: c[:-1], lambda c: b"\0\0\x0d" + c[3:]])
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"])
def test_a_file_of_another_length_or_type_than_it_should_have_is_refused(
    data_spec, tmp_path, mnist_files, name, change
):
    files = own(mnist_files)
    write(tmp_path / "MNIST" / "raw", {**files, name: change(files[name])})
    with pytest.raises(InputError, match=rf"damaged \({name} (must have|does not begin)"):
        data_spec("mnist", root=str(tmp_path))


@pytest.mark.parametrize(
    "name", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte"]
)
def test_one_changed_byte_in_one_published_file_is_refused(data_spec, tmp_path, mnist_files, name):
    content = mnist_files[name]
    write(tmp_path / "MNIST" / "raw", {**mnist_files, name: replaced(content, 20, bytes([content[20] ^ 1]))})
    with pytest.raises(
        InputError, match=rf"damaged \({name} is not the published file, but the other three are"
    ):
        data_spec("mnist", root=str(tmp_path))


def test_own_files_under_a_published_name_are_other_data(data_spec, tmp_path, mnist_files):
    write(tmp_path / "MNIST" / "raw", mnist_files)
    assert data_spec("mnist", root=str(tmp_path)).fingerprint is None
    assert data.load(data_spec("mnist", root=str(tmp_path))).fitted == "as is (28×28)"
    write(tmp_path / "MNIST" / "raw", own(mnist_files))
    spec = data_spec("mnist", root=str(tmp_path))
    assert re.fullmatch("[0-9a-f]{16}", spec.fingerprint)
    assert data.load(spec).fitted == (
        f"as is (28×28); own files of this layout ({spec.fingerprint}), not the published ones"
    )


def test_files_that_change_after_the_run_was_identified_are_refused(data_spec, tmp_path, mnist_files):
    write(tmp_path / "MNIST" / "raw", mnist_files)
    spec = data_spec("mnist", root=str(tmp_path))
    write(tmp_path / "MNIST" / "raw", own(mnist_files))
    with pytest.raises(InputError, match="data=mnist must not change while a command runs"):
        data.load(spec)


def test_the_published_checksums_are_those_of_the_real_mnist(data_spec, real_data):
    root = real_data("MNIST/raw/train-images-idx3-ubyte")
    found = {file.name: md5(file.read_bytes()) for file in (root / "MNIST" / "raw").iterdir()}
    assert found == published.IDX_MD5["mnist"]
    assert data_spec("mnist", root=str(root)).fingerprint is None


def own(files):
    """Whole files with other contents than the published ones."""
    other = {name: bytearray(content) for name, content in files.items()}
    for name, content in other.items():
        content[-1] = content[-1] ^ 1 if "labels" in name else content[-1] ^ 128
    return {name: bytes(content) for name, content in other.items()}


def test_packed_files_that_download_false_leaves_packed_are_named(data_spec, tmp_path, mnist_files):
    packed = {f"{name}.gz": gzip.compress(content) for name, content in mnist_files.items()}
    write(tmp_path / "MNIST" / "raw", packed)
    with pytest.raises(
        InputError, match=r"raw/train-images-idx3-ubyte\.gz is there: data\.download=true unpacks"
    ):
        data.load(data_spec("mnist", root=str(tmp_path), download=False))


def test_the_files_of_another_data_set_are_refused(mnist_files, data_spec, tmp_path, monkeypatch):
    """MNIST in the folder of Fashion-MNIST is no data of the user's own."""
    monkeypatch.setitem(published.IDX_MD5, "fashion_mnist", dict.fromkeys(mnist_files, "0" * 32))
    folder = tmp_path / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for name, content in mnist_files.items():
        (folder / name).write_bytes(content)
    with pytest.raises(InputError, match="these are the files of data=mnist"):
        data.load(data_spec("fashion_mnist", root=str(tmp_path), download=False))


def test_of_an_incomplete_copy_the_missing_files_are_named(mnist_files, data_spec, tmp_path):
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name, content in mnist_files.items():
        (folder / name).write_bytes(content)
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(InputError, match=r"\(t10k-labels-idx1-ubyte: not there\)"):
        data.load(data_spec("mnist", root=str(tmp_path), download=False))
