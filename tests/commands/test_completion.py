"""Tab completion answers for verbs, for what a verb takes, and hands overrides to Hydra."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from normbench import cli
from normbench.store import Store


def complete(line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> list[str]:
    monkeypatch.setenv("COMP_LINE", line)
    assert cli.run(["-sc", "query=bash"]) == 0
    return capsys.readouterr().out.split()


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("normbench ", list(cli.VERBS)),
        ("normbench", list(cli.VERBS)),
        ("normbench  t", ["train", "table"]),
        (
            "normbench train norm=l",
            ["norm=l1bn", "norm=l2", "norm=lcn", "norm=ln_c", "norm=ln_chw", "norm=lrn"],
        ),
        ("normbench train norm=gn norm.args.g", ["norm.args.group_size="]),
        ("normbench train --cfg job norm=g", ["norm=ghost", "norm=gn"]),
        ("normbench plan norm=bn sch", ["schedule.", "schedule="]),
        ("normbench norms g", ["ghost", "gn"]),
        ("normbench table --ro", ["--rows"]),
        ("normbench table --rows norm --co", ["--config-dir", "--cols"]),
        ("normbench table norm=gn norm.args.g", ["norm.args.group_size="]),
        ("normbench plot h", ["heat"]),
        ("normbench plot heat --x batch norm=g", ["norm=ghost", "norm=gn"]),
        ("normbench reproduce wu2018/b", ["wu2018/batch_size"]),
        ("normbench nothing ", []),
    ],
)
def test_completion_offers_what_may_come_next(
    line: str, offered: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert complete(line, monkeypatch, capsys) == offered


def test_runs_complete_by_signature(
    trainer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.run(["train", "batch=2,4"])
    capsys.readouterr()
    signatures = [record.signature for record in Store.default().records()]
    assert complete("normbench info ", monkeypatch, capsys)[:2] == signatures


def test_something_else_after_sc_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["-sc", "bash"]) == 2
    assert "install=, uninstall= or query=" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_with_the_installed_script(tmp_path: Path) -> None:
    """The whole way: the script that `-sc install=bash` prints, in a shell with a command normbench."""
    command = tmp_path / "normbench"
    command.write_text(
        f"#!/bin/sh\nexec {sys.executable} -c 'from normbench.cli import main; main()' \"$@\"\n"
    )
    command.chmod(0o755)
    program = f"import sys; sys.argv[0] = {str(command)!r}; from normbench.cli import main; main()"
    script = subprocess.check_output([sys.executable, "-c", program, "-sc", "install=bash"], text=True)
    typed = 'COMP_LINE="normbench train norm=g"; COMP_POINT=22; COMP_CWORD=2; hydra_bash_completion'
    shell = f'PATH="{tmp_path}:$PATH"\n{script}\n{typed}\necho "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["norm=ghost", "norm=gn"]
