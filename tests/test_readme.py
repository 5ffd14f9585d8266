"""The commands and links of the README work."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from normbench import cli

README = (Path(__file__).parents[1] / "README.md").read_text()
COMMANDS = [
    shlex.split(line, comments=True)[1:]
    for block in re.findall(r"```\n(.*?)```", README, re.S)
    for line in block.splitlines()
    if line.startswith("normbench ")
]


@pytest.mark.parametrize("words", [c for c in COMMANDS if c[0] in ("train", "plan")], ids=" ".join)
def test_every_train_command_of_the_readme_can_be_planned(words, capsys):
    assert cli.run(["plan", *words[1:]]) == 0
    assert re.match(r"\d+ runs?: ", capsys.readouterr().out)


@pytest.mark.parametrize("words", [c for c in COMMANDS if c[0] not in ("train", "plan")], ids=" ".join)
def test_every_other_verb_of_the_readme_exists(words):
    assert words[0] in cli.VERBS


def test_the_list_of_choices_is_made_from_the_registries():
    script = Path(__file__).parents[1] / "scripts" / "readme_lists.py"
    assert subprocess.run([sys.executable, str(script), "--check"], check=False).returncode == 0


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)]+)\)", README))
def test_every_link_of_the_readme_has_a_target(link):
    assert (Path(__file__).parents[1] / link).exists()


def test_the_python_of_the_readme_runs(capsys, monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0}, raising=False)  # no worker processes
    scope: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", README, re.S):
        exec(block, scope)
    assert "layer1.0.bn1: BatchNorm2d → gn, kept γ, β" in capsys.readouterr().out.splitlines()
