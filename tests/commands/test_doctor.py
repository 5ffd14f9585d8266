"""`normbench doctor`: one line per check, with its remedy."""

from __future__ import annotations

import json
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from normbench import cli
from normbench.commands import doctor_machine, doctor_packages, doctor_software
from normbench.commands.doctor_check import check
from normbench.store import Store

ROOT = Path(__file__).parents[2]
Capture = pytest.CaptureFixture[str]
NAMES = [
    "python", "packages", "torch", "gpu", "compiler", "extras", "wandb", "cluster",
    "data", "results", "cache", "disk", "memory", "cores", "shared memory", "open files",
]  # fmt: skip


def report(capsys: Capture, code: int = 0) -> dict[str, dict[str, Any]]:
    assert cli.run(["doctor", "--json"]) == code
    return {each["name"]: each for each in json.loads(capsys.readouterr().out)}


def test_a_machine_that_works_has_no_failure_and_nothing_is_written(capsys: Capture) -> None:
    found = report(capsys)
    assert list(found) == NAMES
    assert {each["level"] for each in found.values()} <= {"ok", "warn"}
    assert "could not be checked" not in str(found)
    assert found["torch"]["found"].startswith(__import__("torch").__version__)
    assert not Store.default().root.exists()
    assert cli.run(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    checks = [line for line in lines if "→" not in line]
    assert [line[6:19].strip() for line in checks] == NAMES


def test_a_results_folder_that_cannot_be_written_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NORMBENCH_RESULTS", str(tmp_path / "file"))
    found = report(capsys, code=1)
    assert found["results"]["level"] == found["cache"]["level"] == "fail"
    assert found["results"]["fix"] == "give another folder with NORMBENCH_RESULTS"


def test_data_are_found_or_the_knob_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NORMBENCH_DATA", str(tmp_path / "nowhere"))
    assert doctor_machine.data().level == "warn"
    assert doctor_machine.data().fix == "set it to the folder that holds MNIST/raw"
    monkeypatch.setenv("NORMBENCH_DATA", str(tmp_path))
    assert "nothing else under" in doctor_machine.data().found
    monkeypatch.setattr(
        "normbench.data.presence.missing", lambda data: "" if data["name"] == "mnist" else "no"
    )
    assert doctor_machine.data().found == f"digits, mnist under {tmp_path}"


def test_packages_that_are_missing_or_old_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name == "rich":
            raise PackageNotFoundError(name)
        return "0.0.1" if name == "torch" else "999"

    needed = ["torch>=2.6", "rich>=13", "wandb>=0.19", 'pandas>=2; extra == "pandas"']
    monkeypatch.setattr(doctor_packages, "requires", lambda name: needed)
    monkeypatch.setattr(doctor_packages, "version", version)
    found = doctor_packages.packages()
    assert (found.level, found.found) == ("fail", "rich is missing; torch 0.0.1 (needs >=2.6)")
    assert found.fix == "pip install --upgrade normbench"


def test_extras_are_those_of_the_package_with_their_versions_or_how_to_install_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = {"pandas": "2.3", "timm": "0.9", "onnx": "1.16", "wandb-workspaces": "0.4.13"}

    def version(name: str) -> str:
        if name not in there:
            raise PackageNotFoundError(name)
        return there[name]

    lines = [
        'wandb-workspaces~=0.4.13; extra == "dashboard"', 'onnx>=1.16; extra == "onnx"',
        'onnxruntime>=1.18; extra == "onnx"', 'pandas>=2; extra == "pandas"',
        "submitit>=1.5; extra == 'slurm'", 'timm>=1.0; extra == "timm"', 'ruff>=0.9; extra == "dev"',
        'normbench[docs,pandas]; extra == "dev"', "rich>=13", 'tensorboard>=2.12; extra == "tensorboard"',
    ]  # fmt: skip
    monkeypatch.setattr(doctor_packages, "requires", lambda name: lines)
    monkeypatch.setattr(doctor_packages, "version", version)
    found = doctor_packages.extras()
    assert found.level == "ok"
    assert found.found.split(", ") == [
        "dashboard (wandb-workspaces 0.4.13)", "pandas 2.3",
        "no onnx (for normbench export --onnx: onnxruntime is missing)",
        "no slurm (for executor=slurm and executor=submitit_local)",
        "no tensorboard (for tracking=tensorboard)", "no timm (for model=timm:NAME: timm 0.9 (needs >=1.0))",
    ]  # fmt: skip
    assert found.fix == "if you want them: pip install 'normbench[onnx,slurm,tensorboard,timm]'"


def test_doctor_says_what_every_extra_for_users_is_for() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    extras = tomllib.loads(text)["project"]["optional-dependencies"]
    assert {*extras} - {"dev", "docs"} <= set(doctor_packages._PURPOSES)


@pytest.mark.parametrize(("free", "level"), [(10 * 2**20, "fail"), (200 * 2**20, "warn"), (2**40, "ok")])
def test_little_disk_space_is_said(free: int, level: str, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": free})
    monkeypatch.setattr(doctor_machine.shutil, "disk_usage", lambda place: usage)
    assert doctor_machine.disk().level == level
    assert ("keep_weights=false" in doctor_machine.disk().fix) == (level != "ok")
    assert doctor_machine.shared_memory().level == ("warn" if free < 2**28 else "ok")


def test_wandb_without_a_key_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "disabled by WANDB_MODE" in doctor_software.wandb().found
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    assert doctor_software.wandb().fix.startswith("wandb login")
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    assert doctor_software.wandb().level == "ok"
    assert "xxx" not in str(doctor_software.wandb())


def test_a_check_that_breaks_does_not_stop_the_others() -> None:
    @check("odd")
    def odd() -> tuple[str, ...]:
        raise RuntimeError("no luck\nat all")

    assert odd() == ("odd", "warn", "could not be checked: RuntimeError: no luck", "")
