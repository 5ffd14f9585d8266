"""Sources of statistics and corruptions: one typed value each, one canonical spelling, errors of one line."""

from __future__ import annotations

import pytest

from normbench.conditions import Condition
from normbench.corruptions import STANDARD, Corruption, parse_corruptions
from normbench.errors import InputError
from normbench.groups import EvalSpec
from normbench.sources import RUNNING, Source, parse_source

SPELLINGS = {
    "running": "running", "batch:class_pure": "batch:class_pure",
    "batch:class_disjoint": "batch:class_disjoint",
    "precise": "precise", "precise:0064": "precise:64", "precise:mean_var": "precise:mean_var",
    "precise:mean_var:64": "precise:mean_var:64", "adapt": "adapt", " adapt:8": "adapt:8",
    "adapt:8:16": "adapt:8:16", "blend:0.10": "blend:0.1", "blend:1e-1": "blend:0.1", "blend:1.0": "blend:1",
    "blend:-0.0": "blend:0",
}  # fmt: skip


@pytest.mark.parametrize(("given", "canonical"), SPELLINGS.items())
def test_every_spelling_of_a_source_becomes_one(given, canonical):
    source = parse_source(given)
    assert str(source) == canonical
    assert parse_source(canonical) == parse_source(source) == source
    assert source.suffix == ("" if canonical == "running" else f"@{canonical}")


@pytest.mark.parametrize(
    "given",
    ["runing", "running:3", "batch:pure", "batch:8", "precise:0", "precise:1e3", "precise:5:5", "adapt:8:0",
     "adapt:-1", "adapt:1:2:3", "adapt:mean_var", "blend", "blend:1.5", "blend:nan", "blend:a",
     "precise:mean_var:x", "blend:0.1:0.2", "", "precise:"],
)  # fmt: skip
def test_a_source_that_does_not_exist_is_one_line(given, make_spec):
    with pytest.raises(InputError, match=r"eval\.statistics|source in eval") as error:
        parse_source(given)
    assert "\n" not in str(error.value)
    assert "pydantic" not in str(error.value)


def test_the_specification_holds_each_source_once_and_records_hold_texts(make_spec):
    spec = make_spec("eval.statistics=[running,precise:064,precise:64,blend:.5]", "eval.corruptions=[fog:2]")
    assert spec.eval.statistics == (RUNNING, Source("precise", images=64), Source("blend", share=0.5))
    tree = spec.eval.model_dump(mode="json")
    assert tree["statistics"] == ["running", "precise:64", "blend:0.5"]
    assert tree["corruptions"] == ["fog:2"]
    assert EvalSpec.model_validate(tree) == spec.eval


def test_conditions_are_all_sources_for_all_images_and_always_running_statistics():
    values = {"every": None, "statistics": ["adapt:8"], "target": None, "corruptions": ["fog:1-2"]}
    conditions = EvalSpec.model_validate(values).conditions
    assert [each.suffix for each in conditions] == ["", "@adapt:8", "/fog:1@adapt:8", "/fog:2@adapt:8"]
    names = Condition(Source("adapt"), Corruption("contrast", 3)).names(("ece",))
    assert names == ["test_loss/contrast:3@adapt", "test_error/contrast:3@adapt", "test_ece/contrast:3@adapt"]


def test_corruptions_are_spelled_out():
    assert [str(c) for c in parse_corruptions(["contrast:3", "gaussian_noise:4-5", "contrast:3"])] == [
        "contrast:3", "gaussian_noise:4", "gaussian_noise:5",
    ]  # fmt: skip
    assert parse_corruptions(["all:3"]) == tuple(Corruption(name, 3) for name in STANDARD)
    assert len(parse_corruptions(["all"])) == 5 * len(STANDARD)


@pytest.mark.parametrize(
    ("given", "message"),
    [(["fogg:1"], "nearest: fog"), (["fog:6"], "from 1 to 5"), (["fog:0"], "from 1 to 5"),
     (["fog:3-2"], "from 1 to 5"), (["fog:"], None), (["fog:x"], "from 1 to 5"),
     (["fog:1-2-3"], "from 1 to 5"),
     (["frost:1"], "photographs"), ("fog", "must be a list")],
)  # fmt: skip
def test_a_corruption_that_does_not_exist_is_one_line(given, message):
    if message is None:
        assert len(parse_corruptions(given)) == 5
        return
    with pytest.raises(InputError, match=message):
        parse_corruptions(given)
