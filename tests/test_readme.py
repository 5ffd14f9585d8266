"""The commands, code and links of README.md and docs/ work. `doc_blocks` says how blocks are marked."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from doc_blocks import EVERY, PAGES, ROOT, SCRIPTS
from normbench import cli
from normbench.papers.catalogue import parse

COMMANDS = [words for block in SCRIPTS for words in block.commands]
PLANNED = dict.fromkeys(
    tuple(words[1:]) for words in COMMANDS if words[0] in ("train", "plan") and "--plugin" not in words
)
OTHERS = dict.fromkeys(tuple(words) for words in COMMANDS if words[0] not in ("train", "plan"))
PYTHON = {b.page: [] for b in EVERY if b.language == "python"}
LINKS = [
    (page, link)
    for page in PAGES
    for link in re.findall(r"\]\(([^()\s]+)\)", page.read_text(encoding="utf-8"))
    if "://" not in link
]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("words", PLANNED, ids=" ".join)
def test_every_train_command_can_be_planned(words, capsys):
    words = [word.replace("$SLURM_ARRAY_TASK_ID", "0") for word in words]
    assert cli.run(["plan", *words]) == 0
    assert re.match(r"\d+ runs?: ", capsys.readouterr().out)


@pytest.mark.parametrize("words", OTHERS, ids=" ".join)
def test_the_words_of_every_other_command_are_understood(words):
    assert words[0] in cli.VERBS
    verb = import_module(f"normbench.commands.{words[0].replace('-', '_')}")
    if hasattr(verb, "parser"):
        verb.parser().parse_args(list(words[1:]))


@pytest.mark.parametrize("block", [b for b in SCRIPTS if not b.mark], ids=lambda b: b.place)
def test_unmarked_commands_run(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert block.whole, f"{block.place}: mark it <!-- slow --> or <!-- not run: REASON -->, see doc_blocks"
    for words in block.commands:
        assert cli.run(words) == 0, words


@pytest.mark.slow
@pytest.mark.parametrize("block", [b for b in SCRIPTS if b.mark == "slow"], ids=lambda b: b.place)
def test_heavy_commands_run_word_for_word(block, tmp_path):
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "normbench").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m normbench "$@"\n')
    (tools / "normbench").chmod(0o755)
    (tmp_path / "empty").mkdir()
    environment = {key: value for key, value in os.environ.items() if key != "NORMBENCH_RESULTS"}
    done = subprocess.run(
        ["bash", "-eu", "-c", block.text], check=False, cwd=tmp_path / "empty", capture_output=True,
        text=True,
        env={**environment, "PATH": f"{tools}:{os.environ['PATH']}", "WANDB_MODE": "disabled"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    if "momentum.yaml" in block.text:
        assert "15 to train → 5 trainings" in done.stdout
        assert "PASS statistics" in done.stdout
        assert r"\toprule" in done.stdout


def test_marks_are_known_and_reasons_are_given():
    for block in SCRIPTS:
        assert block.mark in ("", "slow") or re.match(r"not run: \w", block.mark), block.place


def test_the_ablation_is_the_same_in_readme_and_tutorial_and_has_20_lines():
    texts = {b.text for b in SCRIPTS if "momentum.yaml" in b.text}
    places = [b.place for b in SCRIPTS if "momentum.yaml" in b.text]
    assert len(texts) == 1
    assert [place.partition(":")[0] for place in places] == ["README.md", "docs/tutorial.md"]
    assert len(texts.pop().splitlines()) <= 20


@pytest.mark.parametrize("page", PYTHON, ids=name_of)
def test_the_python_of_a_page_runs(page, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0}, raising=False)  # no worker processes
    scope: dict[str, object] = {}
    for block in EVERY:
        if block.page == page and block.language == "python":
            exec(compile(block.text, block.place, "exec"), scope)
    if page == ROOT / "README.md":
        assert "layer1.0.bn1: BatchNorm2d → gn, kept γ, β" in capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("block", [b for b in EVERY if b.language == "yaml"], ids=lambda b: b.place)
def test_yaml_is_valid_and_a_whole_table_is_understood(block):
    if "scales" in yaml.safe_load(block.text):
        assert parse("mine/table", block.text).scales


def test_the_lists_are_made_from_the_registries():
    script = ROOT / "scripts" / "readme_lists.py"
    assert subprocess.run([sys.executable, str(script), "--check"], check=False).returncode == 0


@pytest.mark.parametrize(("page", "link"), LINKS, ids=str)
def test_every_link_has_a_target(page, link):
    path, _, anchor = link.partition("#")
    target = page.parent / path if path else page
    assert target.exists()
    if anchor and target.suffix == ".md":
        text = target.read_text(encoding="utf-8")
        anchors = {
            re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in re.findall(r"^#+ (.*)$", text, re.M)
        }
        assert anchor in anchors | set(re.findall(r"<a id='(\w+)'>", text))
