"""The catalogue's registry: every method under its key, with what models must know to place it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

import yaml

from normbench.norms.core import Norm

L = TypeVar("L", bound="type[Norm]")


@dataclass(frozen=True)
class Entry:
    """A registered method: what the catalogue shows and what models must know to place it.

    Attributes:
        family:           what statistics range over: batch, sample, channel, pointwise, mixture or whitening.
        reduces:          the axes averaged over, as the docstring writes them.
        reference:        citation key of docs/references.bib.
        batch_statistics: the training output of an image depends on the images beside it.
        absorbs_bias:     a bias added just before the layer has no effect in training, whatever the layer's
                          arguments.
        eval_differs:     the output in evaluation differs from that in training.
        exact_gradient:   the backward pass is the gradient of the forward pass.
        activates:        the layer stands for the activation after it, too; it is built with `activated`
                          false where none follows.
    """

    key: str
    layer: type[Norm]
    family: str
    reduces: str
    reference: str
    batch_statistics: bool
    absorbs_bias: bool
    eval_differs: bool
    exact_gradient: bool
    activates: bool

    @property
    def reads_history(self) -> bool:
        """Whether training itself reads what earlier batches left, so that momentum changes training.

        It follows from `banks` in conf/norm/<key>.yaml, which plans read without torch.
        """
        return self.eval_differs and not _has_banks(self.key)

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of the constructor besides channels and lanes, each with its default."""
        parameters = inspect.signature(self.layer).parameters.values()
        return {p.name: p.default for p in parameters if p.name not in ("channels", "lanes")}


REGISTRY: dict[str, Entry] = {}


@cache
def _has_banks(key: str) -> bool:
    file = files("normbench.conf") / "norm" / f"{key}.yaml"
    return bool(yaml.safe_load(file.read_text(encoding="utf-8"))["banks"]) if file.is_file() else False


def register(
    key: str,
    *,
    family: str,
    reduces: str,
    reference: str,
    batch_statistics: bool = False,
    absorbs_bias: bool = False,
    eval_differs: bool = False,
    exact_gradient: bool = True,
    activates: bool = False,
) -> Callable[[L], L]:
    """Class decorator that enters a norm layer in the catalogue under its key; see `Entry` for the rest."""
    assert key not in REGISTRY, f"two norm layers are registered as {key}"

    def enter(layer: L) -> L:
        layer.key = key
        REGISTRY[key] = Entry(
            key, layer, family, reduces, reference, batch_statistics, absorbs_bias, eval_differs,
            exact_gradient, activates,
        )  # fmt: skip
        return layer

    return enter
