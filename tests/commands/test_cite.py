"""`normbench cite`: the sources of what a sweep uses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from normbench import cli, norms, weight_norms
from normbench.commands.bibliography import bibliography

Capture = pytest.CaptureFixture[str]


def said(capsys: Capture, *argv: str) -> str:
    assert cli.run(["cite", *argv]) == 0
    return capsys.readouterr().out


def test_the_methods_of_a_sweep_come_first_each_once(capsys: Capture) -> None:
    text = said(capsys, "norm=bn,gn,affine", "weight=none,ws", "model=resnet20", "data=cifar10", "optim=adam")
    keys = re.findall(r"^@\w+\{(\w+),", text, re.M)
    assert keys[:3] == ["ioffe2015", "qiao2019", "wu2018"]
    assert {"he2016", "krizhevsky2009", "kingma2015", "he2015", "normbench"} <= {*keys}
    assert len(keys) == len({*keys})
    assert "% norm=bn, norm=affine\n@inproceedings{ioffe2015," in text
    assert "lecun1998" not in text


def test_without_words_every_method_is_there(capsys: Capture) -> None:
    text = said(capsys)
    for key in (*norms.catalogue(), *weight_norms.catalogue()):
        assert re.search(rf"^%.*(norm|weight)={key}\b", text, re.M)


@pytest.mark.parametrize("kind", ["norm", "weight"])
def test_the_ids_of_docstrings_are_those_of_the_bibliography(kind: str) -> None:
    known = bibliography()
    kinds = {key: entry.layer for key, entry in norms.catalogue().items()}
    if kind == "weight":
        kinds = dict(weight_norms.catalogue())
    checked = 0
    for made in kinds.values():
        for key, text in re.findall(r"(\w+\d{4}\w?) — (.*?)arXiv:[\d.]+\d", made.__doc__ or "", re.S):
            [given] = re.findall(rf"{key} — {re.escape(text)}(arXiv:[\d.]+\d)", made.__doc__ or "")
            assert given in known[key]
            checked += 1
    assert checked >= (35 if kind == "norm" else 5)


def test_every_entry_has_authors_title_year_and_a_place() -> None:
    known = bibliography()
    assert len({*known.values()}) >= 80
    for entry in known.values():
        fields = {*re.findall(r"^  (\w+) +=", entry, re.M)}
        assert {"author", "title", "year"} <= fields
        assert fields & {"booktitle", "journal", "institution", "note"}
    assert known["wujohnson2021"] == known["wu2021"]


def test_it_goes_to_a_file(tmp_path: Path, capsys: Capture) -> None:
    assert said(capsys, "norm=gn", "--out", str(tmp_path / "refs.bib")).startswith("wrote ")
    assert "{wu2018," in (tmp_path / "refs.bib").read_text()


def test_an_unknown_norm_is_refused(capsys: Capture) -> None:
    assert cli.run(["cite", "norm=bm"]) == 2
    assert "nearest: bn" in capsys.readouterr().err
