"""Every leaf of a specification refuses numbers out of range, and true in the place of a number.

The values are generated from the fields of the specification, so a new knob is tested without a word here.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from normbench import norms
from normbench.config.choices import choices, declared
from normbench.config.compose import compose
from normbench.config.resolve import resolve
from normbench.data.shapes import check_crop
from normbench.errors import InputError
from normbench.sources import parse_source
from normbench.spec import Part, RunSpec

#: Words of choices that have the knobs of a group that the default choice lacks.
HAVING = {
    "model.width": "model=resnet20", "model.hidden": "model=mlp", "optim.betas": "optim=adam",
    "optim.eps": "optim=adam", "optim.alpha": "optim=rmsprop", "schedule.milestones": "schedule=step",
    "schedule.gamma": "schedule=step", "schedule.every": "schedule=plateau",
    "schedule.patience": "schedule=plateau", "schedule.minimum": "schedule=plateau",
    "data.readers": "data=folder data.path=.", "data.resized_crop": "data=folder data.path=.",
    "data.center_crop": "data=folder data.path=.",
    "data.classes": "data=synthetic", "data.size": "data=synthetic", "data.channels": "data=synthetic",
    "weight.eps": "weight=ws",
}  # fmt: skip
WRONG = (-1, 1e300, float("nan"), float("inf"), -float("inf"), [-1, -1], "many", True)


def leaves(part: type[Part] = RunSpec, prefix: str = "") -> Iterator[tuple[str, str]]:
    """The dotted name of every field below the groups, and its annotation as text."""
    for name, field in part.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Part):
            yield from leaves(field.annotation, f"{prefix}{name}.")
        else:
            yield prefix + name, f"{field.annotation} {field.metadata}"


NUMBERS = [
    name for name, kind in leaves()
    if ("int" in kind or "float" in kind) and name not in ("numerics", "neutral")
]  # fmt: skip
ARGUMENTS = [
    (name, argument)
    for name in choices("norm")
    for argument, default in declared("norm", name)["args"].items()
    if isinstance(default, int | float) and not isinstance(default, bool)
]


@pytest.fixture(scope="module")
def usual() -> dict[str, Any]:
    """Composed configurations by choice, each composed once."""
    return {words: compose(["tracking=none", *words.split()])[0] for words in {"seed=0", *HAVING.values()}}


def set_at(config: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    group, _, leaf = path.rpartition(".")
    return {**config, group: {**config[group], leaf: value}} if group else {**config, leaf: value}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_leaf_refuses_what_is_no_number_in_its_range(name: str, usual: dict[str, Any]) -> None:
    config = usual[HAVING.get(name, "seed=0")]
    whole = "float" not in dict(leaves())[name] and name != "seed"
    for wrong in (*WRONG, *([10**13, 1.5] if whole else [])):
        if wrong is True and "bool" in dict(leaves())[name]:
            continue
        with pytest.raises(InputError) as raised:
            spec = resolve(set_at(config, name, wrong)).spec
            pytest.fail(f"{name}={wrong} is accepted as {spec.model_dump()}")
        assert name.rpartition(".")[2] in str(raised.value) or name.partition(".")[0] in str(raised.value)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize(("name", "argument"), ARGUMENTS)
def test_an_argument_of_a_norm_refuses_true_and_what_is_out_of_range(
    name: str, argument: str, usual: dict[str, Any]
) -> None:
    known = declared("norm", name)
    for wrong in (True, "many", [1], float("nan"), float("inf"), 1e300, 10**40):
        norm = {**known, "args": {**known["args"], argument: wrong}}
        with pytest.raises(InputError, match=argument):
            spec = resolve({**usual["seed=0"], "norm": norm}).spec
            norms.build(name, 16, 1, **{argument: spec.norm.args[argument]})
            pytest.fail(f"norm.args.{argument}={wrong} is accepted by {name}")


@pytest.mark.parametrize("word", ["optim.lr=1e-320", "norm.eps=1e-320", "optim.weight_decay=1e-320"])
def test_a_number_that_fp32_rounds_to_zero_is_refused(word: str, make_spec) -> None:
    with pytest.raises(InputError, match="should be 0 or at least 1e-37, which fp32 can hold"):
        make_spec(word)


@pytest.mark.parametrize("value", ["[1,1]", "[0.9,1]", "[1,0.999]", "[0.9,true]", "[0.9,-0.1]"])
def test_a_beta_of_one_is_refused(value: str, make_spec) -> None:
    with pytest.raises(InputError, match=r"optim\.betas"):
        make_spec("optim=adam", f"optim.betas={value}")


def test_a_true_argument_without_a_type_is_refused(usual: dict[str, Any]) -> None:
    """Arguments that are null in the YAML of their norm are numbers."""
    for name in choices("norm"):
        known = declared("norm", name)
        for argument, default in known["args"].items():
            if default is None:
                norm = {**known, "args": {**known["args"], argument: True}}
                with pytest.raises(InputError, match=argument):
                    resolve({**usual["seed=0"], "norm": norm})


def test_the_crop_is_at_most_the_side_of_the_images(make_spec) -> None:
    check_crop(make_spec("data.crop=32").data, 32)
    with pytest.raises(InputError, match=r"data.crop must be at most 32, the side of the images.*got 33"):
        check_crop(make_spec("data.crop=33").data, 32)


def test_steps_are_bounded_in_epochs_too(make_spec) -> None:
    assert make_spec("epochs=1000").length(1_000_000) == 1000 * 31_250
    with pytest.raises(InputError, match="a run must have at most 1,000,000,000 steps"):
        make_spec("epochs=1000000").length(1_000_000)


@pytest.mark.parametrize("text", ["precise:" + "1" * 5000, "adapt:10000000000"])
def test_numbers_in_texts_are_bounded(text: str) -> None:
    with pytest.raises(InputError, match="takes at most"):
        parse_source(text)
