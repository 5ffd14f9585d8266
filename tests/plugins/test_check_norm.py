"""`normbench check-norm` names the clauses that a norm breaks."""

from __future__ import annotations

import re

import pytest

from normbench import cli
from normbench.commands import check_norm
from normbench.norms import contract
from normbench.norms.contract import declarations, lanes, training

from .conftest import NORM


def check(monkeypatch, capsys, file, clauses, *words: str) -> tuple[int, str]:
    """Exit code and output of the verb with some clauses only."""
    monkeypatch.setattr(contract, "CLAUSES", clauses)
    return cli.run(["check-norm", str(file), *words]), capsys.readouterr().out


def test_a_norm_that_keeps_all_clauses_exits_with_0(write, monkeypatch, capsys):
    clauses = (*training.CLAUSES[:3], *declarations.CLAUSES)
    code, said = check(monkeypatch, capsys, write("good.py", NORM), clauses, "norm.args.alpha=0.4")
    assert code == 0
    assert said.count("\n  ok ") == 10 and said.endswith("mine: 10 of 10 clauses kept\n")


@pytest.mark.parametrize(
    ("before", "after", "clause", "reason"),
    [
        ("by_lane(x, self.lanes)", "by_lane(x, 1)", lanes.lanes_are_apart, "may reduce over the lane axis"),
        ("(x + self.shift) * gain", "x.add_(1) * gain", training.input_untouched, "changes its input"),
        ("self.eps_along(x)", "self.eps", lanes.lanes_equal_lone_layers, "eps of their own: lane 1 of 3"),
        ('reduces="C, H, W"', "batch_statistics=True", declarations.batch_statistics, "mix images"),
        ('reduces="C, H, W"', "eval_differs=True", declarations.eval_differs, "declare eval_differs=False"),
        ("gain)\n", "gain * x.new_tensor(float('nan')))\n", training.constant_input, "is not finite"),
    ],
)  # fmt: skip
def test_a_broken_clause_is_named_with_its_reason(write, monkeypatch, capsys, before, after, clause, reason):
    assert NORM.count(before) == 1
    code, said = check(monkeypatch, capsys, write("bad.py", NORM.replace(before, after)), (clause,))
    first = clause.__doc__.strip().partition("\n")[0].rstrip(".")
    assert code == 1
    assert f"  failed  {first}\n" in said and reason in said
    assert said.endswith("mine: 0 of 1 clause kept, 1 broken\n")


def test_words_and_files_that_do_not_fit_are_refused(write, capsys):
    file = str(write("good.py", NORM))
    empty = str(write("empty.py", "x = 1\n"))
    for words, reason in (
        ([empty], "registers no norm; decorate the class with"),
        ([file, "norm=bn"], "has no norm bn; it has mine"),
        ([file, "norm.args.beta=1"], "unknown argument of norm mine 'beta'"),
        ([file, "batch=2"], "check-norm takes norm=KEY and norm.args.NAME=VALUE; got batch=2"),
        (["./nothing.py"], "there is no plugin at ./nothing.py"),
    ):
        assert cli.run(["check-norm", *words]) == 2
        assert reason in capsys.readouterr().err


def test_the_help_is_there_and_completes(capsys, monkeypatch):
    assert cli.run(["check-norm", "--help"]) == 0
    assert re.search(r"exit code 1 if a\s+clause is broken", capsys.readouterr().out, re.I)
    assert check_norm.parser().prog == "normbench check-norm"
