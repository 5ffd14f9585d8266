"""What `plan` and `info` say about the norm momenta of runs."""

from __future__ import annotations

import doctest

import pytest

from normbench import cli
from normbench.commands import momenta
from normbench.commands.momenta import effect


def said(capsys, *argv: str) -> list[str]:
    assert cli.run(argv) == 0
    return capsys.readouterr().out.splitlines()


def test_examples_of_the_docstrings_hold():
    assert doctest.testmod(momenta).failed == 0


def test_a_plan_has_a_line_for_every_momentum_and_length(capsys):
    lines = said(
        capsys, "plan", "norm=bn,gn,ghost", "norm.momentum=0.1,keras:0.999", "batch=16,64", "seed=range(2)",
        "steps=50",
    )  # fmt: skip
    at = lines.index("momentum  steps  last weight  half-life  % initial left")
    assert sorted(lines[at + 1 : at + 3]) == [
        "     0.1     50          0.1        6.6             0.5",
        "   0.001     50        0.001        693            95.1",
    ]
    assert not any(line.startswith(("     0", "   0")) for line in lines[at + 3 :])


@pytest.mark.parametrize("words", [["norm=gn"], ["norm=bn", "norm.args.track=false"], ["norm=none"]])
def test_a_plan_of_norms_without_running_statistics_has_none(words, capsys):
    assert not any("% initial left" in line for line in said(capsys, "plan", *words))


def test_info_says_what_the_momentum_came_to(capsys):
    said(capsys, "train", "model=mlp", "steps=20", "norm.momentum=linear:0.5:0.1", "tracking=none")
    (signature,) = (line.split("/")[-1] for line in said(capsys, "train", "model=mlp", "steps=20",
        "norm.momentum=linear:0.5:0.1", "tracking=none") if line.startswith("record"))  # fmt: skip
    lines = said(capsys, "info", signature)
    at = lines.index("running statistics")
    assert lines[at + 1 : at + 6] == [
        "  momentum        linear:0.5:0.1", "  steps           20", "  last weight     0.12",
        "  half-life       4.2", "  % initial left  0.0",
    ]  # fmt: skip


def test_statistics_that_freeze_move_until_then():
    assert effect(0.1, {"after": 0.7}, 10)["steps"] == "7"
    assert effect(0.1, {"after": 0.0}, 10) == {}
    assert effect(None, {}, 10) == {}
