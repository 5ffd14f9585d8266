"""A configuration is data: it imports nothing, whatever it says to Hydra. Odd values there are refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from normbench import cli
from normbench.config.compose import compose
from normbench.config.sweep import resolve_sweep
from normbench.errors import InputError


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("+hydra.callbacks.x._target_=os.system", "installed Hydra plugin"),
        ("+hydra.callbacks.x._target_=hydra_plugins.normbench_launcher.launcher.Path", "installed"),
        ("+hydra.callbacks.x._target_=hydra.utils.call", "installed Hydra plugin"),
        ("hydra.launcher._target_=os.system", "installed Hydra plugin"),
        ("++hydra.launcher.x={_target_:os.system,_args_:[true]}", "installed Hydra plugin"),
        ("++hydra.sweeper.x=[{_target_:os.system}]", "installed Hydra plugin"),
        ("hydra.searchpath=[pkg://this]", "imports a package"),
        ("++hydra.job_logging={handlers:{x:{class:os.popen}}}", "a class of Python's logging"),
        ("++hydra.job_logging={handlers:{x:{stream:'ext://os.environ'}}}", "ext://sys.stdout"),
        ("hydra.launcher=1", "hydra/launcher=NAME"),
        ("hydra.sweeper=[1]", "a list stands where keys"),
        ("hydra.sweeper.params=1", "keys with values"),
        ("hydra.mode=RUN", "has no effect"),
    ],
)
def test_what_would_import_code_is_refused(word: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        compose([word])


def test_train_refuses_the_same_before_anything_is_made(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[str] = []
    monkeypatch.setattr(os, "system", ran.append)
    assert cli.run(["train", "++hydra.launcher.x={_target_:os.system,_args_:[ls]}"]) == 2
    assert cli.run(["train", "+hydra.callbacks.x={_target_:os.system,_args_:[ls]}"]) == 2
    assert ran == []
    assert capsys.readouterr().err.count("installed Hydra plugin") == 2


def test_a_file_of_ones_own_cannot_import_either(tmp_path: Path) -> None:
    folder = tmp_path / "hydra" / "launcher"
    folder.mkdir(parents=True)
    (folder / "mine.yaml").write_text("_target_: subprocess.call\n")
    with pytest.raises(InputError, match=r"got 'subprocess.call'; a configuration imports nothing else"):
        compose(["hydra/launcher=mine"], str(tmp_path))


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("norm=[0.9]", "a run has one norm"),
        ("norm=[]", "a run has one norm"),
        ("norm.args=1", "norm.args must be written"),
        ("norm.args=[1]", "a list stands where keys"),
        ("model=3", "unknown model"),
        ("optim=", "unknown optim"),
        ("eval=1", "eval must be keys with values"),
        ("eval=null", "eval must be keys with values"),
        ("engine=1", "unknown engine"),
        ("placement=1", "unknown placement"),
        ("+numerics={norm:7}", "cannot be set"),
        ("+neutral={a:1}", "cannot be set"),
        ("data.path=caf\udce9", r"must be UTF-8; got data.path=caf\\udce9; rename the file"),
        ("seed=" + "[" * 2000, "cannot read"),
        ("seed=" + "[" * 500 + "]" * 500, "nested too deeply"),
    ],
)
def test_a_scalar_or_a_list_in_the_place_of_a_group_is_refused(word: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        resolve_sweep(compose([word]))


@pytest.mark.parametrize(("text", "said"), [('"\\0"', "no NUL"), ('"\\ud800"', "must be UTF-8")])
def test_texts_of_files_that_no_record_can_hold_are_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(f"# @package data\npath: {text}\n")
    with pytest.raises(InputError, match=said):
        resolve_sweep(compose(["+experiment=mine", "data=folder"], str(tmp_path)))
