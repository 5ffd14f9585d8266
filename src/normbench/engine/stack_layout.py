"""Stack layout: the memory format of a stack and the algorithm of each of its convolutions.

A layout changes the speed of a stack. It changes results only by rounding.
"""

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

MEMORY_FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


@dataclass(frozen=True)
class StackLayout:
    """The memory format of a stack and the algorithms of its convolutions.

    memory_format: a key of MEMORY_FORMATS, for weights and images.
    algorithm:     a key of `models.convolution.ALGORITHMS`, for every convolution outside `exceptions`.
    exceptions:    layer name → algorithm of this convolution.
    """

    memory_format: str
    algorithm: str = "grouped"
    exceptions: Mapping[str, str] = field(default_factory=dict)

    @property
    def torch_format(self) -> torch.memory_format:
        """The memory format as a torch value."""
        return MEMORY_FORMATS[self.memory_format]

    def apply(self, network: Network) -> None:
        """Give a network this layout, in place."""
        network.to(memory_format=self.torch_format)
        for name, layer in convolutions(network).items():
            layer.algorithm = self.exceptions.get(name, self.algorithm)


def memory_formats(engine: EngineSpec) -> list[str]:
    """The memory formats that `engine.layout` allows."""
    return list(MEMORY_FORMATS) if engine.layout == "auto" else [engine.layout]


def algorithms(engine: EngineSpec) -> list[str]:
    """The convolution algorithms that `engine.convolution` allows, the default one first."""
    return list(ALGORITHMS) if engine.convolution == "auto" else [engine.convolution]


def default_layout(engine: EngineSpec, device: torch.device) -> StackLayout:
    """The layout of a stack if nothing was measured."""
    default = next(name for name, value in MEMORY_FORMATS.items() if value == default_memory_format(device))
    return StackLayout(default if engine.layout == "auto" else engine.layout, algorithms(engine)[0])


def convolutions(network: Network) -> dict[str, Conv2d]:
    """The convolutions of a network by layer name."""
    return {name: layer for name, layer in network.named_modules() if isinstance(layer, Conv2d)}


def describe_convolutions(network: Network) -> str:
    """The algorithms of a network's convolutions, with the number of layers if there are several.

    For example "grouped", or "17 grouped, 2 matmul"; "" if the network has no convolution. A network of one
    lane computes its convolutions as plain PyTorch does, whatever its layout says: "ordinary".
    """
    used = [layer.algorithm if layer.lanes > 1 else "ordinary" for layer in convolutions(network).values()]
    counts = Counter(used).most_common()
    return ", ".join(name if count == len(used) else f"{count} {name}" for name, count in counts)
