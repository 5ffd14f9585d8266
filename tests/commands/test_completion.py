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
        ("normbench train norm=bn,g", ["norm=bn,ghost", "norm=bn,gn"]),
        ("normbench plan batch=2,4 norm=gn,gh", ["norm=gn,ghost"]),
        ("normbench train model.hidden=[8,8", []),
        ("normbench cite norm=bn,ln_ch", ["norm=bn,ln_chw"]),
        ("normbench table --rows norm,placement.s", ["norm,placement.sites"]),
        ("normbench table --cols=norm.mo", ["--cols=norm.momentum"]),
        ("normbench table --metric test_error,train_s --rows ba", ["batch"]),
        ("normbench plot line --y ensemble_n", ["ensemble_nll"]),
        ("normbench table --where norm=bn,ln_ch", ["norm=bn,ln_chw"]),
        ("normbench runs --where status=fa", ["status=failed"]),
        ("normbench runs --sort si", ["size"]),
        ("normbench table --format l", ["latex"]),
        ("normbench table --out fi", []),
        ("normbench runs t", ["tag"]),
        ("normbench new n", ["norm"]),
        ("normbench reproduce sca", ["scale="]),
        ("normbench reproduce wu2018/batch_size scale=t", ["scale=tiny"]),
        ("normbench reproduce he2016/placement scale=", ["scale=tiny", "scale=small", "scale=full"]),
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
    assert complete(f"normbench export {signatures[0][:6]}", monkeypatch, capsys) == [signatures[0]]
    assert complete("normbench table --where batch=", monkeypatch, capsys) == ["batch=2", "batch=4"]
    assert complete("normbench table --where batch=2,", monkeypatch, capsys) == ["batch=2,4"]
    assert complete("normbench table --metric test_loss,test_e", monkeypatch, capsys) == [
        "test_loss,test_error", "test_loss,test_error@batch",
    ]  # fmt: skip


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
    typed = 'COMP_LINE="normbench train norm=bn,g"; COMP_POINT=25; COMP_CWORD=2; hydra_bash_completion'
    shell = f'PATH="{tmp_path}:$PATH"\n{script}\n{typed}\necho "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["norm=bn,ghost", "norm=bn,gn"]
