"""What a clause of the contract works on: layers of a method, inputs, comparisons that give a reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from normbench import norms
from normbench.errors import NormError
from normbench.norms.core import Norm
from normbench.norms.registry import Entry

CHANNELS = 6
SHAPES = ((4, CHANNELS), (4, CHANNELS, 5), (4, CHANNELS, 4, 3), (4, CHANNELS, 2, 3, 2))
IMAGES = SHAPES[2]


class Broken(AssertionError):
    """A layer breaks a clause of the contract. The message is the reason."""


@dataclass(frozen=True)
class Subject:
    """A registered method.

    Attributes:
        key:     of the method.
        fitting: arguments besides the defaults that four images of six channels need.
    """

    key: str
    fitting: Mapping[str, Any] = field(default_factory=dict)

    @property
    def entry(self) -> Entry:
        return norms.entry(self.key)

    def make(
        self, lanes: int = 1, *, dtype: torch.dtype = torch.float64, channels: int = CHANNELS, **args: Any
    ) -> Norm:
        """A layer of K·6 channels, its parameters unlike 1 and 0."""
        layer = norms.build(self.key, channels, lanes, **{**self.fitting, **args}).to(dtype)
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.copy_(0.5 + torch.rand(parameter.shape, generator=generator, device="cpu"))
        return layer

    def shapes(self, layer: Norm) -> list[tuple[int, ...]]:
        """The shapes, from 2-D to 5-D, on which a layer can be trained."""
        fitting: list[tuple[int, ...]] = [shape for shape in SHAPES if _fits(layer, shape)]
        check(len(fitting) >= 2, "it can be trained on fewer than 2 of the shapes from 2-D to 5-D")
        return fitting


def _fits(layer: Norm, shape: tuple[int, ...]) -> bool:
    try:
        layer.check((shape[0], layer.lanes * shape[1], *shape[2:]))
    except NormError:
        return False
    return True


def draw(
    shape: Sequence[int], seed: int = 0, *, lanes: int = 1, dtype: torch.dtype = torch.float64
) -> Tensor:
    """Normal numbers of a shape, the same for the same seed; neither centred at 0 nor of variance 1."""
    shape = (shape[0], lanes * shape[1], *shape[2:])
    numbers = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (0.7 + 1.8 * numbers).to(dtype)


def gradients(layer: Norm, x: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Output and the gradients of a fixed random projection of it, with respect to x and every parameter."""
    x = x.clone(memory_format=torch.preserve_format).requires_grad_()
    y = layer(x)
    weights = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view(y.shape)
    return y, torch.autograd.grad((y * weights).sum(), [x, *layer.parameters()])


def check(holds: bool, reason: str) -> None:
    """Raise `Broken` with the reason unless a condition holds."""
    if not holds:
        raise Broken(reason)


def near(found: Tensor, wanted: Tensor, tolerance: float, what: str, *, relative: float = 0.0) -> None:
    """Raise `Broken` unless two tensors agree."""
    try:
        torch.testing.assert_close(found, wanted, rtol=relative, atol=tolerance)
    except AssertionError as error:
        difference = (found - wanted).abs().max().item() if found.shape == wanted.shape else float("nan")
        raise Broken(f"{what}; largest difference {difference:.1e}") from error


def state_of(layer: Norm) -> dict[str, Tensor]:
    """Copies of the tensors of a layer's state."""
    return {name: tensor.detach().clone() for name, tensor in layer.state_dict().items()}


def changed(layer: Norm, before: Mapping[str, Tensor]) -> list[str]:
    """Names of the tensors of the state that differ from earlier copies."""
    return [name for name, tensor in layer.state_dict().items() if not torch.equal(tensor, before[name])]


#: A clause of the contract. It raises `Broken`, or any error of the layer, if the method breaks it.
Clause = Callable[[Subject], None]
