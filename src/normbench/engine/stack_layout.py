"""How a stack lies in memory and how its convolutions are computed. Neither changes more than rounding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch

from normbench.engine.device import default_memory_format
from normbench.models import Network
from normbench.models.convolution import ALGORITHMS
from normbench.models.layers import Conv2d
from normbench.spec import EngineSpec

LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


@dataclass(frozen=True)
class StackLayout:
    """How a stack lies in memory and computes its convolutions.

    layout:      a key of LAYOUTS.
    convolution: a key of `models.convolution.ALGORITHMS`, of all layers but the exceptions.
    exceptions:  another key by the name of a layer.
    """

    layout: str
    convolution: str = "grouped"
    exceptions: Mapping[str, str] = field(default_factory=dict)

    @property
    def memory_format(self) -> torch.memory_format:
        return LAYOUTS[self.layout]

    def shape(self, network: Network) -> None:
        """Let a network be of this form: its weights, and how its convolutions are computed."""
        network.to(memory_format=self.memory_format)
        for name, layer in convolutions(network).items():
            layer.algorithm = self.exceptions.get(name, self.convolution)


def layouts(engine: EngineSpec) -> list[str]:
    """The layouts to choose from."""
    return list(LAYOUTS) if engine.layout == "auto" else [engine.layout]


def algorithms(engine: EngineSpec) -> list[str]:
    """The convolutions to choose from."""
    return list(ALGORITHMS) if engine.convolution == "auto" else [engine.convolution]


def default_layout(engine: EngineSpec, device: torch.device) -> StackLayout:
    """The form where nothing was measured."""
    usual = next(name for name, order in LAYOUTS.items() if order == default_memory_format(device))
    return StackLayout(usual if engine.layout == "auto" else engine.layout, algorithms(engine)[0])


def convolutions(network: Network) -> dict[str, Conv2d]:
    """The convolutions of a network by name."""
    return {name: layer for name, layer in network.named_modules() if isinstance(layer, Conv2d)}


def describe_convolutions(network: Network) -> str:
    """How the convolutions of a network are computed, with the numbers of layers where not all are alike.

    For example: grouped, or 17 grouped, 2 matmul; "" where there are none.
    """
    kinds = [layer.algorithm if layer.lanes > 1 else "ordinary" for layer in convolutions(network).values()]
    counts = Counter(kinds).most_common()
    return ", ".join(kind if count == len(kinds) else f"{count} {kind}" for kind, count in counts)
