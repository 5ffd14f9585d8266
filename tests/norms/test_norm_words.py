"""The library's errors name its own arguments. Keys of the configuration mean nothing to its users."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import nn

from normbench import norms, weight_norms
from normbench.errors import InputError

#: Keys and choices of the configuration.
KEYS = re.compile(r"\b(norm|weight|placement|model|optim)(\.[a-z]|=)|placement|\bnull\b")
BAD = (None, True, -1, 0, 2.5, 4, 7, float("inf"), float("nan"), "zz", "linear:2:0", "debiased:0", [1], [])
SINGLE = ((1, 6), (1, 6, 1, 1), (3, 6, 1, 1))


def errors(call: Callable[[], object]) -> Iterator[str]:
    try:
        call()
    except InputError as error:
        yield str(error)
    except (TypeError, ValueError, AttributeError) as error:
        raise AssertionError(f"not an InputError: {error!r}") from error


def ways(key: str, args: dict) -> Iterator[Callable[[], object]]:
    """Every way to make a layer with these arguments."""

    def net() -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 6, 3))

    yield lambda: norms.build(key, 6, lanes=2, **args)
    yield lambda: norms.layer(key, **args)(6)
    yield lambda: norms.convert(net(), key, **args)
    yield lambda: norms.insert(net(), norms.layer(key, **args), after="3")


def test_no_message_about_an_argument_names_a_key_of_the_configuration(key):
    messages: list[str] = []
    for name in norms.entry(key).arguments:
        for value in BAD:
            messages += errors(lambda name=name, value=value: norms.build(key, 6, **{name: value}))
        for value in ("zz", -1):
            for way in ways(key, {name: value}):
                messages += errors(way)
    messages += errors(lambda: norms.build(key, 6, no_such_argument=1))
    assert messages
    assert [message for message in messages if KEYS.search(message)] == []


def test_no_message_about_an_input_names_a_key_of_the_configuration(key):
    inputs = [torch.ones(shape) for shape in SINGLE]
    inputs += [torch.ones(4, 5, 2, 2), torch.ones(6), torch.ones(()), torch.ones(4, 6, 2, 2).int()]
    messages: list[str] = []
    for channels, args in ((6, {}), (1, {}), (6, {"batch": 3})):
        if key != "ghost" and args.keys() <= norms.entry(key).arguments.keys():
            layer = norms.build(key, channels, **args)
            for x in inputs:
                messages += errors(lambda layer=layer, x=x: layer(x))
    assert messages or key in ("none", "ghost")
    assert [message for message in messages if KEYS.search(message)] == []


def test_a_schedule_that_nobody_moves_on_is_explained_without_keys():
    layer = norms.build("bn", 6, momentum="linear:0.1:0")
    with pytest.raises(InputError, match=r"^momentum=linear:0\.1:0\.0 changes over the run"):
        layer(torch.randn(4, 6))


def test_no_message_of_a_weight_map_names_a_key_of_the_configuration():
    messages: list[str] = []
    for key in weight_norms.catalogue():
        for weight in (
            torch.ones(4, 1, 1, 1),
            torch.zeros(4, 3, 3, 3),
            torch.ones(3, 2),
            torch.randn(4, 3, 3, 3),
        ):
            messages += errors(lambda key=key, weight=weight: weight_norms.build(key, weight))
            for eps in (True, 0, -1, float("inf"), "zz"):
                messages += errors(
                    lambda key=key, weight=weight, eps=eps: weight_norms.build(key, weight, 1, eps)
                )
    assert len(set(messages)) > 5
    assert [message for message in messages if KEYS.search(message)] == []
