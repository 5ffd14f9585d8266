"""The norm of docs/howto/own-norm.md, word for word."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from normbench import cli

PAGE = (Path(__file__).parents[2] / "docs" / "howto" / "own-norm.md").read_text(encoding="utf-8")


def test_the_norm_of_the_page_keeps_the_contract_and_trains(write, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code, commands = (re.search(rf"```{kind}\n(.*?)```", PAGE, re.S)[1] for kind in ("py", "sh"))
    write("my_norm.py", code)
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 16  # the name of the file and 15 lines
    check, train, table = (shlex.split(line, comments=True)[1:] for line in commands.splitlines())
    assert cli.run(check) == 0
    assert "failed" not in capsys.readouterr().out
    quick = ["model=mlp", "model.hidden=[8]", "steps=2", "tracking=none", "engine.processes=1"]
    assert cli.run([*train, *quick]) == 0
    shown = capsys.readouterr().out
    assert "normbench table --plugin my_norm.py norm=bn,power_rms norm.args.alpha=0.3" in shown
    assert cli.run(table) == 0
    assert re.search(r"^power_rms +\d", capsys.readouterr().out, re.M)
