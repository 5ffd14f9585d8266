"""What the tests remember of Hydra's compositions is what Hydra composes anew."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

import hydra_memory
from normbench.config.compose import compose
from normbench.config.search_path import open_loader

WORDS = [
    [],
    ["norm=gn", "batch=2"],
    ["norm=bn,gn", "seed=range(3)"],
    ["~schedule.warmup", "norm.args={}", "norm=gn", "++norm.args.more={a:1}", "batch=2", "batch=4"],
    ["model=mlp", "model.hidden=[8,9]", "hydra.verbose=true", "hydra/launcher=basic"],
]


def load(words: list[str]) -> DictConfig:
    return open_loader().load_configuration("config", words, RunMode.MULTIRUN)


@pytest.mark.parametrize("words", WORDS, ids=map(" ".join, WORDS))
def test_a_remembered_configuration_is_a_fresh_one(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(words)
    monkeypatch.chdir(tmp_path)
    remembered = load(words)
    hydra_memory.forget(monkeypatch)
    fresh = load(words)
    assert remembered == fresh
    assert OmegaConf.to_yaml(remembered) == OmegaConf.to_yaml(fresh)  # with the order of keys
    assert remembered.hydra.runtime.cwd == str(tmp_path)
    for flag in ("struct", "readonly"):
        assert remembered._get_flag(flag) == fresh._get_flag(flag)
        assert remembered.hydra._get_flag(flag) == fresh.hydra._get_flag(flag)


def test_a_change_of_a_configuration_reaches_no_other_test() -> None:
    load(["norm=gn"]).norm.eps = 7
    assert load(["norm=gn"]).norm.eps != 7


def test_what_hydra_composed_is_not_composed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    recall = hydra_memory.Memory.recall
    counted = lambda self, key, make: recall(self, key, lambda: made.append(key) or make())  # noqa: E731
    compose(["norm=gn", "seed=3"])
    monkeypatch.setattr(hydra_memory.Memory, "recall", counted)
    compose(["norm=gn", "seed=3"])
    assert not made
    compose(["norm=gn", "seed=4"])
    assert made


def test_files_and_variables_of_the_user_are_read_each_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "norm").mkdir()
    for eps in (0.25, 0.5):
        (tmp_path / "norm" / "own.yaml").write_text(f"name: gn\neps: {eps}\n", encoding="utf-8")
        monkeypatch.setenv("NORMBENCH_DATA", f"place {eps}")
        [own] = compose(["norm=own", "data=mnist"], str(tmp_path))
        [packaged] = compose(["norm=gn", "data=mnist"])
        assert own["norm"]["eps"] == eps
        assert own["data"]["root"] == packaged["data"]["root"] == f"place {eps}"
