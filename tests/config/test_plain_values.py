"""Plain values are set without Hydra: configurations, errors and overrides are the same as with Hydra."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import OmegaConf

hypothesis = pytest.importorskip("hypothesis", reason="make setup installs it")
from hypothesis import example, given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from normbench.config import compose as composing  # noqa: E402
from normbench.config.compose import Composer, compose, to_plain  # noqa: E402
from normbench.config.job_words import listed_numbers  # noqa: E402
from normbench.config.plain_values import has_plain_value, reads_no_other_key  # noqa: E402
from normbench.config.search_path import CONFIG_NAME, open_loader  # noqa: E402
from normbench.errors import InputError  # noqa: E402
from random_cases import cases  # noqa: E402

CASES = cases(150)
CHOICES = ("norm=bn", "norm=gn", "data=folder", "tracking=none", "placement=norm_act_conv", "norm=bm")
KEYS = (
    "batch", "seed", "steps", "total", "norm.momentum", "norm.eps", "norm.args.num_groups", "norm.args.track",
    "norm.args", "model.hidden", "model.hidden.0", "model.init", "data.path", "data.root", "optim",
    "optim.lr", "schedule.warmup", "tracking.project", "tracking.tags", "eval.every", "eval.statistics",
    "eval.target", "engine.lanes", "nothing", "optim.nothing", "batch.more", "model", "eval", "diagnostics",
    "keep_weights",
)  # fmt: skip
VALUES = (
    "0", "7", "-3", "0.5", "1e-3", "nan", "inf", "true", "null", "abc", "keras:0.9", "'quoted, text'", "'7'",
    "'null'", "???", "'???'", "${batch}", "'${seed}'", "${oc.env:HOME}", "${nowhere}", "[]", "[1,b]", "{}",
    "{a:1,b:[2]}", "{track:false}", "''", "\\,", "a\\ b", "1_000", "0x10", "é",
)  # fmt: skip
SIGNS = ("", "", "", "++", "+", "~")


@cache
def composer() -> Composer:
    loader = open_loader()
    return Composer(loader, loader.load_configuration(CONFIG_NAME, [], RunMode.MULTIRUN))


def outcome(function: Callable[[Sequence[str]], object], words: Sequence[str]) -> str:
    """What a function returns, with all types and the order of keys, or its error."""
    try:
        return repr(function(words))
    except InputError as error:
        return f"{type(error).__name__}: {error}"


def slowly(words: Sequence[str]) -> object:
    return to_plain(composer().job(words))


@dataclass
class Typed:
    """A structured configuration, which refuses values of another type."""

    number: int = 1
    anything: Any = 1


WORD = st.builds(
    lambda sign, key, value: f"{sign}{key}={value}",
    st.sampled_from(SIGNS), st.sampled_from(KEYS), st.sampled_from(VALUES),
)  # fmt: skip


@CASES
@given(st.lists(st.sampled_from(CHOICES[:-1]), max_size=2, unique=True), st.lists(WORD, max_size=6))
@example(["data=folder"], ["data.path=x", "seed=3"])
@example([], ["batch=2", "++batch=3", "seed=1"])
@example([], ["++batch=3", "batch=2"])
@example([], ["norm.args={track:false}", "norm.args.track=true", "seed=1"])
@example([], ["~norm.args.track", "norm.args.track=true", "seed=1"])
@example([], ["workers=${batch}", "batch=2"])
@example([], ["batch=2", "workers=${batch}"])
@example([], ["model.hidden.0=7", "model.init=torch"])
@example([], ["~seed=0", "batch=2"])
@example(["norm=bm"], ["seed=1"])
@example([], ["norm=[bn,gn]", "seed=1"])
@example([], ["optim=[1,b]", "seed=1"])
def test_any_job_is_composed_as_by_hydra(choices: list[str], words: list[str]) -> None:
    job = list({word.partition("=")[0]: word for word in [*choices, *words]}.values())
    assert outcome(composer().plain, job) == outcome(slowly, job)


SWEEPS = (
    ["norm=bn,gn", "seed=range(6)", "batch=2,4"],
    ["norm=bn,gn", "norm.args.num_groups=1,2", "seed=0,1"],
    ["data=folder", "data.path=x,y", "seed=0,1"],
    ["data=folder", "seed=0,1"],
    ["seed=range(0,3)", "workers=${batch}", "batch=2,4"],
    ["seed=0,1", "tracking.project='a, b'", "norm.momentum=keras:0.9,cumulative,null"],
    ["batch=2,null,two,'3',true,[4],{a:5}", "seed=1,0"],
    ["optim.lr=range(0.1,0.5,0.1)", "seed=-1,0"],
    ["optim.lr=1e-5,1e16,.5,-0.0,nan,inf", "seed=0,1"],
    ["seed=choice(3,1,2)", "eval.statistics=[running],[batch]"],
    ["seed=shuffle(range(1))", "norm.eps=choice(1e-3,null)"],
    ["~schedule.warmup", "seed=0,1"],
    ["+more=1,2", "seed=0,1"],
    ["++batch=1,2", "batch=3,4"],
    ["seed=0,1", "optim.lrr=1"],
    ["seed=0,1", "data.root=${nowhere}"],
    ["seed=0,1", "norm=bn,[gn]"],
    ["norm=glob(ln*)", "seed=0,1", "hydra.verbose=true"],
    ["seed=range(0)"],
    ["seed=range(0,1e9,0.1)"],
    ["batch.more=1,2"],
    ["engine.lanes=auto,1", "placement.sites=[a.*,b],first"],
)


@pytest.mark.parametrize("words", SWEEPS, ids=" ".join)
def test_a_sweep_is_composed_as_by_hydra(words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    found = outcome(compose, words)
    monkeypatch.setattr(composing.JobWords, "note_numbers", lambda self, overrides: None)
    monkeypatch.setattr(Composer, "plain", lambda self, job: to_plain(self.job(job)))
    assert found == outcome(compose, words)


def test_values_that_follow_from_others_follow_in_every_run(tmp_path: Path) -> None:
    (tmp_path / "norm").mkdir()
    (tmp_path / "norm" / "mine.yaml").write_text(
        "name: bn\nmomentum: ${optim.lr}\neps: 1.0e-5\naffine: true\nargs: {track: true}\n"
    )
    configs = compose(["norm=mine,bn", "optim.lr=0.5,0.25", "seed=0,1"], str(tmp_path))
    assert [config["norm"]["momentum"] for config in configs] == [0.5, 0.5, 0.25, 0.25, *[0.1] * 4]


def test_runs_share_what_no_word_changes_and_nothing_else() -> None:
    first, second = compose(["norm.eps=0.5,0.25", "model.hidden=[8]"])
    assert first["model"] is second["model"]
    assert (first["norm"]["eps"], second["norm"]["eps"]) == (0.5, 0.25)
    assert first["norm"]["args"] is second["norm"]["args"]


def test_a_plain_value_is_replaced_only_where_any_value_may_stand() -> None:
    config = OmegaConf.create(
        {"a": 1, "b": {"c": None, "d": "${a}"}, "e": "???", "f": [1], "g": "${b}", "h": None}
    )
    keys = ("a", "b.c", "h", "b", "b.d", "e", "f.0", "g.c", "h.i", "nothing", "a.b", "", "a.")
    assert [key for key in keys if has_plain_value(config, key)] == ["a", "b.c", "h"]
    OmegaConf.set_readonly(config.b, True)
    assert not has_plain_value(config, "b.c")
    typed = OmegaConf.create({"t": Typed})
    assert not has_plain_value(typed, "t.number")
    assert not has_plain_value(typed, "t.anything")


@pytest.mark.parametrize(
    ("text", "alone"),
    [
        ("a", True),
        ("${oc.env:HOME}", True),
        ("${oc.env:HOME,data/x}", True),
        ("${oc.env:HOME,null}", True),
        ("${other}", False),
        ("${oc.env:HOME,${other}}", False),
        ("x${oc.env:HOME}", False),
        ("${oc.select:other}", False),
    ],
)
def test_only_environment_variables_may_be_read_beside_other_keys(text: str, alone: bool) -> None:
    assert reads_no_other_key(OmegaConf.create({"deep": [{"key": text}], "other": 1})) is alone


@CASES
@given(
    st.sampled_from(["seed", "a.b_c", "+more", "++norm.args.x", "~seed", "group@package"]),
    st.lists(st.integers() | st.floats() | st.booleans(), min_size=2, max_size=4),
)
@example("seed", [1e16, 1e-7, -0.0, 5e-324])
def test_the_override_of_a_listed_number_is_what_the_parser_makes_of_it(
    key: str, numbers: list[float]
) -> None:
    parser = OverridesParser.create()
    [sweep] = parser.parse_overrides([f"{key}={','.join(map(str, numbers))}"])
    found = dict(listed_numbers(sweep))
    assert {repr(each) for each in found.values()} == {repr(parser.parse_override(word)) for word in found}
    assert set(found) <= {f"{key}={number}" for number in numbers}


def test_texts_that_look_like_numbers_are_left_to_the_parser() -> None:
    [sweep] = OverridesParser.create().parse_overrides(["seed=choice(str(1),2,true,'3')"])
    assert list(dict(listed_numbers(sweep))) == ["seed=2"]
