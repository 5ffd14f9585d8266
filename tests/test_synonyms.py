"""A name from a paper or another library leads to normbench's own."""

from __future__ import annotations

import pytest

from normbench.conditions import ALWAYS
from normbench.config.choices import GROUPS, choices, declared
from normbench.errors import unknown
from normbench.report.metrics import TIMING
from normbench.synonyms import SYNONYMS, meant

NORMS = choices("norm")


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("batchnorm", ["bn"]),
        ("BatchNorm2d", ["bn"]),
        ("nn.BatchNorm1d", ["bn"]),
        ("torch.nn.GroupNorm", ["gn"]),
        ("batch_norm", ["bn"]),
        ("batch-normalization", ["bn"]),
        ("groupnorm", ["gn"]),
        ("layernorm", ["ln_chw", "ln_c"]),
        ("LN", ["ln_chw", "ln_c"]),
        ("InstanceNorm3d", ["in"]),
        ("rmsnorm", ["rms"]),
        ("SyncBatchNorm", ["sync"]),
        ("batch_renorm", ["brn"]),
        ("switchable_norm", ["sn"]),
        ("identity", ["none"]),
        ("BN", ["bn"]),
        ("ln-chw", ["ln_chw"]),
        ("evonorm", ["evonorm_b0", "evonorm_s0"]),
        ("EvoNormB0", ["evonorm_b0"]),
        ("zzz", []),
    ],
)
def test_a_norm_is_found_by_its_other_names(given: str, names: list[str]) -> None:
    assert meant(given, NORMS) == names


def test_only_names_that_exist_are_offered() -> None:
    assert meant("layernorm", ["ln_c", "bn"]) == ["ln_c"]
    assert meant("batchnorm", ["gn"]) == []


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("lr", ["optim.lr"]),
        ("learning_rate", ["optim.lr"]),
        ("momentum", ["norm.momentum", "optim.momentum"]),
        ("norm.track", ["norm.args.track"]),
        ("norm.lr", ["optim.lr"]),
        ("batch_size", ["batch"]),
        ("device", ["engine.device"]),
    ],
)
def test_a_key_is_found_by_its_last_part_or_another_name(given: str, names: list[str]) -> None:
    keys = ["norm.momentum", "norm.args.track", "optim.momentum", "optim.lr", "batch", "engine.device"]
    assert meant(given, keys) == names


def test_the_meaning_comes_before_the_spelling() -> None:
    assert "nearest: bn (all" in str(unknown("norm", "batchnorm", NORMS))
    assert "nearest: lenet5, lenet300" in str(unknown("model", "lenet", choices("model")))


def test_every_synonym_leads_to_an_existing_name() -> None:
    """A name that a synonym gives is a choice or a key: a renamed choice is noticed here."""
    names = {name for group in GROUPS for name in choices(group)}
    knobs = {f"{g}.{knob}" for g in GROUPS for name in choices(g) for knob in declared(g, name)}
    arguments = {f"norm.args.{a}" for name in NORMS for a in declared("norm", name)["args"]}
    top = {"batch", "workers", "total", "epochs", "steps", "seed", *GROUPS}
    metrics = {f"{split}_{name}" for split in ("test", "valid") for name in ALWAYS} | {*TIMING}
    given = {name for meanings in SYNONYMS.values() for name in meanings.split()}
    assert given <= names | knobs | arguments | top | metrics
