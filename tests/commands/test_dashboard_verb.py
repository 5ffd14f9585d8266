"""`normbench dashboard`: what it refuses, in one line and with exit code 2. No network is needed."""

from __future__ import annotations

import sys

import pytest

from normbench.cli import run
from normbench.dashboard import account


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "one of the arguments --json --push --report is required"),
        (["--json", "--push"], "not allowed with argument"),
        (["--json", "norm=bn"], "key=value needs --paper; for other runs use --where norm=bn"),
        (
            ["--json", "--where", "norm=bn", "--paper", "wu2018/batch_size"],
            "give --where or --paper, not both",
        ),
        (["--json", "--name", "a=b"], "must be text without symbols"),
        (["--json"], "there are no records"),
        (["--json", "--paper", "wu2018/batch"], "unknown paper table 'wu2018/batch'"),
        (["--json", "--paper", "wu2018/batch_size", "scale=huge"], "unknown scale"),
        (["--json", "--paper", "wu2018/batch_size"], "no run of wu2018/batch_size at scale tiny has ended"),
    ],
)
def test_bad_input_is_one_line(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("wandb_workspaces", reason="wandb-workspaces is missing: pip install '.[dashboard]'")
    assert run(["dashboard", *words]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert message in said.err
    assert said.err.count("\n") == 1


def test_a_missing_extra_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(account, "find_spec", lambda name: None if name == "wandb_workspaces" else object())
    assert run(["dashboard", "--json"]) == 2
    assert capsys.readouterr().err == (
        "error: normbench dashboard needs wandb-workspaces: pip install 'normbench[dashboard]'\n"
    )


def test_the_module_is_imported_without_wandb() -> None:
    import subprocess

    program = "import sys, normbench.dashboard; print([m for m in ('wandb', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
