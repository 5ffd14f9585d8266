"""What docstrings say under "Same as" holds in fp64: the two layers give one output in training."""

from __future__ import annotations

import re

import pytest
import torch

from normbench import norms
from normbench.commands.method_docs import method_doc

#: KEY [with its arguments][, in training][, for arguments of this layer].
ITEM = re.compile(r"(?P<other>\w+)(?: with (?P<theirs>[^;]*?))?(?:, in [a-z ]+)?(?:,? for (?P<own>.*))?")


def said() -> list[tuple[str, str]]:
    return [
        (key, item)
        for key, entry in norms.catalogue().items()
        if (text := method_doc(entry.layer).sections.get("Same as"))
        for item in text.rstrip(".").split("; ")
    ]


def settings(text: str | None) -> dict[str, int]:
    return {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", text or "")}


def output(key: str, args: dict[str, int]) -> torch.Tensor:
    layer = norms.build(key, 16, **args).double().train()
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        layer.weight.copy_(torch.rand(16, generator=draw, dtype=torch.float64) + 0.5)
        layer.bias.copy_(torch.rand(16, generator=draw, dtype=torch.float64))
        return layer(2 * torch.randn(32, 16, 4, 4, generator=draw, dtype=torch.float64) + 1)


@pytest.mark.parametrize(("key", "item"), said())
def test_the_two_layers_give_the_same_output(key, item):
    parts = ITEM.fullmatch(item)
    assert parts, f"{key} says '{item}'"
    own, theirs = settings(parts["own"]), settings(parts["theirs"])
    assert torch.allclose(output(key, own), output(parts["other"], theirs), rtol=0, atol=1e-12)


def test_several_norms_say_what_they_equal():
    assert {"ln_chw", "in", "gn", "ghost", "bnet"} <= {key for key, _ in said()}
