"""Words that cannot be read or do not exist: the error says how they are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from normbench.config.compose import compose
from normbench.config.grammar import unreadable, written
from normbench.config.sweep import resolve_sweep
from normbench.errors import InputError


def refusal(*words: str) -> str:
    with pytest.raises(InputError) as caught:
        resolve_sweep(compose(words))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["norm=bn,", "gn"], "without spaces and without a comma at the end: norm=bn,…"),
        (["batch=2,", "4"], "without spaces and without a comma at the end: batch=2,…"),
        (["norm", "=", "bn"], "No spaces around = and commas"),
        (["norm=", "bn"], "cannot read 'bn': a word must be key=value"),
        (["tracking.project=a=b"], "'tracking.project=\"a=b\"'"),
        (["data=folder", "data.path=C#"], "'data.path=\"C#\"'"),
        (["norm=[bn,gn]"], "a run has one norm; got norm=[bn,gn]; write a sweep as norm=bn,gn"),
        (["model=[mlp]"], "a run has one model"),
        (["batch=[2,4]"], "write a sweep as batch=2,4"),
        (["optim.lr=[0.1,0.2]"], "write a sweep as optim.lr=0.1,0.2"),
        (["seed=0..4"], "write a sweep as 'seed=range(0,5)'"),
        (["seed=1-3"], "write a sweep as 'seed=range(1,4)'"),
        (["batch=2:4"], "write a sweep as 'batch=range(2,5)'"),
        (["tracking.tags=a"], "write tracking.tags=[a]"),
        (["schedule=step", "schedule.milestones=0.5"], "write schedule.milestones=[0.5]"),
        (["norm.track=false"], "nearest: norm.args.track"),
        (["norm.num_groups=2"], "nearest: norm.args.num_groups, an argument of norm="),
        (["groups=2"], "nearest: norm.args.num_groups, an argument of norm="),
        (["norm.args.group_size=2"], "it is an argument of norm="),
        (["lr=0.1"], "nearest: optim.lr ("),
        (["momentum=0.1"], "optim.momentum"),
        (["device=cpu"], "nearest: engine.device ("),
        (["learning_rate=0.1"], "nearest: optim.lr ("),
        (["norm=batchnorm"], "nearest: bn ("),
        (["optim=adamv"], "nearest: adam"),
        (["+norm=gn"], "norm has a default choice already; write norm=… without +"),
        (["tracking.project=a,b"], "quote a value with a comma: 'tracking.project=\"a,b\"'"),
        (["hydra.run.dir=out"], "NORMBENCH_RESULTS=out"),
        (["hydra.sweep.dir=out"], "NORMBENCH_RESULTS=out"),
        (["hydra.job.chdir=true"], "hydra.job.chdir has no effect"),
        (["hydra.foo=1"], "unknown key 'hydra.foo' of Hydra"),
        (["norm.name=gn"], "write norm=gn"),
        (["+norm.type=gn"], "write norm=gn"),
        (["model.name=mlp,lenet5"], "write model=mlp,lenet5"),
        (["tracking.name=first"], "write tracking.tags=[…] to mark runs"),
        (["norm=null"], "norm must be the name of a choice; got norm=null; write norm=none"),
        (["tracking=false"], "write tracking=none"),
        (["~norm"], "a run needs one norm; got ~norm; write norm=none"),
        (["~weight=none"], "write weight=none"),
        (["norm=bn|gn"], "write a sweep as norm=bn,gn"),
        (["norm=bn;gn"], "write a sweep as norm=bn,gn"),
        (["norm=bn/gn"], "unknown norm 'bn/gn'"),
        (["optim.beta=0.9"], "nearest: optim.betas"),
        (["norm.decay=0.9"], "nearest: norm.momentum ("),
        (["num_classes=10"], "nearest: data.classes ("),
        (["+learning_rate=1"], "nearest: optim.lr ("),
        (["norm=bn,in", "norm.args.group_size=2"], "norm.args.group_size is an argument of norm="),
        (["tracking.tags=[a,[b]]"], "tracking.tags.1 should be a valid string; got ['b']"),
    ],
)
def test_the_error_says_how_to_write_it(words: list[str], said: str) -> None:
    assert said in refusal(*words)


def test_a_group_without_a_default_is_added_with_a_plus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "e1.yaml").write_text("# @package _global_\nbatch: 7\n")
    for words in (["experiment=e1"], ["experiment=e1,e1"]):
        with pytest.raises(InputError, match=r"write \+experiment="):
            compose(words, str(tmp_path))


@pytest.mark.parametrize(
    "text", ["a=b", "a, b", "C#", "x;y", "[a", "a}", "(x", "it's", 'say "so"', "1e3", "ä ö"]
)
def test_the_quoted_word_that_an_error_offers_can_be_read(text: str) -> None:
    """What is offered is quoted twice: for the shell and for Hydra."""
    import shlex

    offered = unreadable(f"tracking.project={text}").split(": ", 1)[1]
    [word] = shlex.split(offered)
    [config] = compose([word])
    assert config["tracking"]["project"] == text
    assert compose([f"tracking.project={written(text)}"]) == [config]


def test_an_output_folder_of_hydra_is_kept_if_hydra_writes_there(tmp_path: Path) -> None:
    """With hydra.output_subdir, the sweeper writes multirun.yaml into the sweep's folder."""
    assert compose([f"hydra.sweep.dir={tmp_path}", "hydra.output_subdir=.hydra"])


def test_an_argument_of_one_group_never_offers_those_of_another() -> None:
    assert "norm." not in refusal("weight=ws,none", "weight.args.foo=1")


def test_a_hint_for_an_item_of_a_list_is_no_sweep() -> None:
    assert "sweep" not in refusal("tracking.tags=[a,[b]]")


def test_the_keys_listed_for_an_added_key_are_those_of_the_command_line() -> None:
    said = refusal("+foo=1")
    assert "total" in said and "invalid" in said
    assert "numerics" not in said and "neutral" not in said


def test_an_own_file_without_its_package_line_is_told_the_line(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "e1.yaml").write_text("batch: 7\nnorm: gn\n")
    with pytest.raises(InputError, match="must begin with the line '# @package _global_'"):
        resolve_sweep(compose(["+experiment=e1"], str(tmp_path)))


@pytest.mark.parametrize(("key", "variable"), [("project", "WANDB_PROJECT"), ("entity", "WANDB_ENTITY")])
def test_a_variable_without_a_value_is_none_and_a_wrong_one_is_named(
    key: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(variable, raising=False)
    [unset] = resolve_sweep(compose(["tracking=wandb"])).runs
    monkeypatch.setenv(variable, "")
    [empty] = resolve_sweep(compose(["tracking=wandb"])).runs
    assert empty.spec.tracking == unset.spec.tracking
    monkeypatch.setenv(variable, "a/b")
    assert f"tracking.{key} must have 1 to 128 characters" in refusal("tracking=wandb")
    assert f"got 'a/b' from {variable}" in refusal("tracking=wandb")
