"""Requests for diagnostics: names, arguments, cadences; the catalogue is what the probes are."""

from __future__ import annotations

from pathlib import Path

import pytest

from normbench.diagnostics import CATALOGUE, Diagnostic, parse, parse_all
from normbench.errors import InputError

PROBES = Path(__file__).parents[1] / "src/normbench/engine/probes"
REFERENCES = Path(__file__).parents[1] / "docs/references.bib"
#: Files of the room that are no probes.
OTHERS = {
    "__init__", "protocol", "registry", "diagnosis", "along_training", "afterwards", "images", "moments",
    "gradients",
}  # fmt: skip


def test_every_diagnostic_is_one_file_and_every_other_file_is_known():
    assert {file.stem for file in PROBES.glob("*.py")} == CATALOGUE.keys() | OTHERS


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_probe_says_its_formula_source_and_cost_and_its_source_is_in_the_references(name):
    text = (PROBES / f"{name}.py").read_text()
    source = text.partition("Source:")[2].strip().partition(",")[0].split()[0]
    assert "Cost:" in text
    assert f"{{{source}," in REFERENCES.read_text()


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("running_error", Diagnostic("running_error")),
        ("smoothness:50", Diagnostic("smoothness", every=50)),
        ("small_gamma@0.1", Diagnostic("small_gamma", "0.1")),
        ("percentiles@stage1.0.norm1.7:20", Diagnostic("percentiles", "stage1.0.norm1.7", 20)),
        ("fluctuation@3", Diagnostic("fluctuation", "3")),
    ],
)
def test_a_request_is_read_and_written_alike(text, meant):
    assert parse(text) == meant
    assert str(meant) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("runing_error", "unknown diagnostic 'runing_error'; nearest: running_error"),
        ("", "unknown diagnostic ''"),
        ("smoothness:0", "cadence of smoothness must be a whole number of steps ≥ 1; got '0'"),
        ("smoothness:", "cadence of smoothness must be a whole number of steps ≥ 1; got ''"),
        ("smoothness:1.5", "got '1.5'"),
        ("smoothness@3", "smoothness takes no argument; got '3'"),
        ("small_gamma@-1", "small_gamma takes a threshold > 0 behind @; got '-1'"),
        ("small_gamma@nan", "got 'nan'"),
        ("small_gamma@", "got ''"),
        ("fluctuation@1", "fluctuation takes a number of evaluations ≥ 2 behind @; got '1'"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused_in_one_line(text, said):
    with pytest.raises(InputError) as refused:
        parse(text)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_one_label_is_read_once_at_every_step_that_is_asked_for():
    asked = parse_all(["smoothness", "smoothness:20", "smoothness:30", "small_gamma@0.1", "small_gamma"])
    assert [str(each) for each in asked] == ["smoothness:10", "small_gamma@0.1", "small_gamma"]


def test_a_specification_takes_one_name_or_a_list_and_refuses_other_things(make_spec):
    assert make_spec("diagnostics=running_error").diagnostics == ("running_error",)
    assert make_spec("diagnostics=[smoothness:5,running_error]").diagnostics == (
        "smoothness:5",
        "running_error",
    )
    assert make_spec().diagnostics == ()
    for wrong in ("diagnostics=3", "diagnostics=[3]"):
        with pytest.raises(InputError, match="list of names"):
            make_spec(wrong)


def test_diagnostics_are_no_part_of_the_signature_but_of_the_stack(make_spec):
    plain, asked = make_spec(), make_spec("diagnostics=[running_error]")
    assert plain.signature == asked.signature
    assert plain.stack_key() != asked.stack_key()
