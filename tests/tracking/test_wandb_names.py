"""Names that wandb refuses are refused before training."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from normbench.errors import InputError
from normbench.spec import TrackingSpec

#: Texts at the borders of wandb's rules.
TEXTS = (
    "", " ", "a", "x" * 64, "x" * 65, "x" * 128, "x" * 129, "a/b", "a\\b", "a#b", "a?b", "a%b", "a:b", "a b",
    "a,b", "a.b", "ä", "a\nb", "日本",
)  # fmt: skip


def accepted(**fields: Any) -> bool:
    given = {"name": "wandb", "project": "p", "entity": None, "mode": "auto", "tags": ()} | fields
    try:
        TrackingSpec.model_validate(given)
    except ValidationError:
        return False
    return True


def accepted_by_wandb(**settings: Any) -> bool:
    import wandb

    try:
        wandb.Settings(**settings)
    except (ValidationError, wandb.errors.UsageError):
        return False
    return True


@pytest.mark.parametrize("text", TEXTS, ids=repr)
def test_whatever_wandb_refuses_is_refused(text: str) -> None:
    assert accepted_by_wandb(project=text) or not accepted(project=text)
    assert accepted_by_wandb(project=text) or not accepted(
        entity=text
    )  # the server judges it by the same rule
    assert accepted_by_wandb(run_tags=(text,)) or not accepted(tags=(text,))


@pytest.mark.parametrize("text", [t for t in TEXTS if t.strip() and t.isprintable()], ids=repr)
def test_whatever_wandb_accepts_is_accepted(text: str) -> None:
    assert accepted(project=text) == accepted_by_wandb(project=text)
    assert accepted(tags=(text,)) == accepted_by_wandb(run_tags=(text,))


NAME = "must have 1 to 128 characters, none of / \\ # ? % : and no control characters"
TAG = "must have 1 to 64 characters, no control characters"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("tracking.project=a/b", f"tracking.project {NAME}; got 'a/b'"),
        ("tracking.project=''", f"tracking.project {NAME}; got ''"),
        ("tracking.entity=me/p", f"tracking.entity {NAME}; got 'me/p'"),
        ("tracking.tags=[a,'']", f"tracking.tags.1 {TAG}; got ''"),
        (f"tracking.tags=[{'x' * 65}]", f"tracking.tags.0 {TAG}; got '{'x' * 65}'"),
    ],
)  # fmt: skip
def test_the_error_names_the_key_the_rule_and_the_value(make_spec: Any, word: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        make_spec("tracking=wandb", word)
    assert str(error.value) == message
    assert error.value.exit_code == 2


def test_the_project_and_the_entity_come_from_the_environment_unless_given(
    make_spec: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "theirs")
    monkeypatch.setenv("WANDB_ENTITY", "team")
    spec = make_spec("tracking=wandb").tracking
    assert (spec.project, spec.entity) == ("theirs", "team")
    assert make_spec("tracking=wandb", "tracking.project=mine").tracking.project == "mine"
