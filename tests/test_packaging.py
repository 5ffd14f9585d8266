"""The configuration and the Hydra plugins are found however normbench is installed, and from any folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
NEEDED = ("pyproject.toml", "MANIFEST.in", "CITATION.cff", "README.md", "LICENSE", "conf", "src")

try:
    SETUPTOOLS = int(version("setuptools").partition(".")[0])
except PackageNotFoundError:
    SETUPTOOLS = 0
builds = pytest.mark.skipif(SETUPTOOLS < 77, reason="needs setuptools ≥ 77 here, to build without a network")


def build(kind: str, source: Path, out: Path) -> Path:
    """Build a wheel or an sdist with the setuptools at hand, outside the checkout."""
    out.mkdir(exist_ok=True)
    code = f"from setuptools import build_meta; print(build_meta.build_{kind}({str(out)!r}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=source, capture_output=True, text=True, check=True
    )
    return out / done.stdout.splitlines()[-1]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout's files, the symlink to conf kept one."""
    folder = tmp_path_factory.mktemp("source") / "normbench"
    folder.mkdir()
    ignore = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in NEEDED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignore)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path) -> Path:
    return build("wheel", source, source.parent / "dist")


def names(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@builds
def test_a_wheel_contains_the_whole_configuration_and_both_plugins(wheel: Path) -> None:
    held = names(wheel)
    conf = {
        f"normbench/conf/{file.relative_to(ROOT / 'conf').as_posix()}"
        for file in (ROOT / "conf").rglob("*.yaml")
    }
    assert len(conf) > 40
    assert conf <= held
    assert {"normbench/conf/__init__.py", "normbench/py.typed", "normbench/references.bib"} <= held
    pages = ROOT / "src" / "normbench" / "pages"
    shown = {file.relative_to(ROOT / "src").as_posix() for kind in ("templates/*.html", "static/*")
             for file in pages.glob(kind)}  # fmt: skip
    assert len(shown) == 6 and shown <= held
    assert {f"hydra_plugins/normbench_{kind}/{kind}.py" for kind in ("launcher", "sweeper")} <= held


@builds
def test_hydra_plugins_stays_a_namespace(wheel: Path) -> None:
    assert "hydra_plugins/__init__.py" not in names(wheel)
    assert not (ROOT / "src" / "hydra_plugins" / "__init__.py").exists()


@builds
def test_a_wheel_made_from_an_sdist_has_the_same_files(source: Path, wheel: Path, tmp_path: Path) -> None:
    sdist = build("sdist", source, tmp_path / "dist")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    unpacked = tmp_path / sdist.name.removesuffix(".tar.gz")
    assert names(build("wheel", unpacked, tmp_path / "dist")) == names(wheel)


def installed(what: list[str], folder: Path) -> Callable[..., str]:
    """Install into a virtual environment of its own, beside the packages of this one.

    Args:
        what: the words after `pip install`.

    Returns:
        A function that runs a program of that environment in `folder`, such as `normbench`, and returns what
        it prints.
    """
    venv.create(folder / "venv")
    programs = folder / "venv" / "bin"
    site = subprocess.check_output(
        [programs / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
    )
    (Path(site.strip()) / "dependencies.pth").write_text(
        sysconfig.get_path("purelib") + "\n"
    )  # pip among them
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "NORMBENCH"))
    }

    def call(program: str, *words: str) -> str:
        return subprocess.run(
            [programs / program, *words],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    call("python", "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--ignore-installed", *what)
    return call


@builds
@pytest.mark.slow
def test_python_m_build_ends_without_a_warning(source: Path, tmp_path: Path) -> None:
    pytest.importorskip("build", reason="needs the package build")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path, source],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert not [line for line in said.splitlines() if "warning" in line.lower() or "deprecat" in line.lower()]
    assert sorted(file.suffix for file in tmp_path.iterdir()) == [".gz", ".whl"]


@builds
@pytest.mark.slow
@pytest.mark.parametrize("how", ["wheel", "editable"])
def test_an_installed_normbench_works_from_another_folder(
    how: str, source: Path, wheel: Path, tmp_path: Path
) -> None:
    call = installed(
        [str(wheel)] if how == "wheel" else ["--no-build-isolation", "--editable", str(source)], tmp_path
    )
    where = call("python", "-c", "import normbench; print(normbench.__file__)")
    assert str(source if how == "editable" else tmp_path) in where
    assert "name: gn" in call("normbench", "train", "norm=gn", "--cfg", "job")
    plugins = call("normbench", "train", "--info", "plugins")
    assert "NormbenchLauncher" in plugins
    assert "NormbenchSweeper" in plugins
    assert "2 runs" in call("normbench", "plan", "norm=bn,gn", "model=mlp")


@builds
@pytest.mark.slow
def test_an_ablation_of_ones_own_trains_and_is_shown_from_an_installed_wheel(
    wheel: Path, tmp_path: Path
) -> None:
    call = installed([str(wheel)], tmp_path)
    call("normbench", "new", "ablation", "mine")
    assert (tmp_path / "conf/paper/mine/mine.yaml").is_file()
    said = call(
        "normbench", "reproduce", "conf/paper/mine/mine.yaml", "epochs=1", "seed=0,1", "tracking=none"
    )
    assert "norm / batch" in said and "REPORT bn_collapses" in said
    tables = tmp_path / "results/tables"
    assert {file.suffix for file in tables.rglob("mine.tiny*")} == {".md", ".csv", ".tex", ".json", ".svg"}
    call("normbench", "report", "--where", "seed=0")
    assert (tmp_path / "results/report/index.html").is_file()
    assert "mine/mine" in call("normbench", "reproduce")  # a table of one's own has a name
