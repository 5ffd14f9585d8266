"""The registry: every method by its key, with the facts that models need to place it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any, TypeVar

import yaml

from normbench import parts
from normbench.norms.core import Norm

L = TypeVar("L", bound="type[Norm]")


@dataclass(frozen=True)
class Entry:
    """A registered method: what the catalogue shows, and the facts that models need to place it.

    Attributes:
        family:           batch, sample, channel, pointwise, mixture or whitening.
        reduces:          the axes averaged over, as the docstring writes them.
        reference:        citation key of docs/references.bib.
        batch_statistics: in training, the output of an image depends on the other images of the batch.
        absorbs_bias:     a bias added just before the layer has no effect in training, for all arguments of
                          the layer but `center`, see `removes_bias`.
        eval_differs:     the output in evaluation differs from that in training.
        exact_gradient:   the backward pass is the gradient of the forward pass.
        activates:        the layer includes the activation after it. If no activation follows, it is built
                          with `activated` false.
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
        return self.eval_differs and not has_banks(self.key)

    def removes_bias(self, args: Mapping[str, Any]) -> bool:
        """Whether a layer with these arguments removes a bias added just before it: `absorbs_bias`, unless
        the layer is told not to subtract the mean.
        """
        return self.absorbs_bias and args.get("center", True) is not False

    @property
    def arguments(self) -> dict[str, Any]:
        """Keyword arguments of the constructor besides channels and lanes, each with its default."""
        parameters = inspect.signature(self.layer).parameters.values()
        return {p.name: p.default for p in parameters if p.name not in ("channels", "lanes")}


REGISTRY: dict[str, Entry] = {}


def has_banks(key: str) -> bool:
    """Whether the method declares that training never reads its running statistics."""
    own = parts.find("norm", key)
    return _packaged_banks(key) if own is None else bool(own.knobs["banks"])


@cache
def _packaged_banks(key: str) -> bool:
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
    """Class decorator that registers a norm layer under its key; for the other arguments see `Entry`."""
    assert key not in REGISTRY, f"two norm layers are registered as {key}"

    def enter(layer: L) -> L:
        layer.key, layer.same_in_evaluation = key, not eval_differs
        REGISTRY[key] = Entry(
            key, layer, family, reduces, reference, batch_statistics, absorbs_bias, eval_differs,
            exact_gradient, activates,
        )  # fmt: skip
        return layer

    return enter
