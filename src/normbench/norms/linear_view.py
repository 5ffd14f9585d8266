"""One view of convolutions and linear layers, torch's and stacked ones: y = W x + b."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from normbench.norms.lanes import along_first

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
#: The forward methods of torch's layers. A subclass with another forward may not compute W x + b.
FORWARDS = {kind.forward for kind in (*CONVOLUTIONS, *TRANSPOSED, nn.Linear)}


@dataclass(frozen=True)
class Linear:
    """A layer that is linear in its input and stores W itself as its weight.

    W is read as rows, (outputs, inputs/G, *kernel) in fp64, and written back in the layer's own form.

    Attributes:
        layer:      the layer.
        groups:     G; channels of different groups do not mix.
        transposed: whether W is stored as (inputs, outputs/G, *kernel), as in transposed convolutions.
        batched:    whether W is stored as (G, outputs/G, inputs/G), as in stacked linear layers.
    """

    layer: nn.Module
    groups: int
    transposed: bool = False
    batched: bool = False

    @property
    def axes(self) -> int | None:
        """Number of axes of the input; None if any number will do."""
        if isinstance(self.layer, nn.Linear):
            return None
        return 2 if self.batched else self._kept.dim()

    @property
    def inputs(self) -> int:
        kept = self._kept.shape
        return kept[0] if self.transposed else self.groups * kept[2 if self.batched else 1]

    @property
    def outputs(self) -> int:
        kept = self._kept.shape
        return self.groups * kept[1] if self.transposed or self.batched else kept[0]

    @property
    def pads(self) -> bool:
        """Whether outputs at the border see fewer inputs, so that shifting the input shifts them less."""
        padding = getattr(self.layer, "padding", 0)
        if self.transposed:
            return True
        if getattr(self.layer, "padding_mode", "zeros") != "zeros" or padding == "valid":
            return False
        if padding == "same":
            return any(size > 1 for size in self._kept.shape[2:])
        return any(padding) if isinstance(padding, tuple) else padding != 0

    def absorb_output(self, scale: Tensor, shift: Tensor) -> None:
        """Become scale · y + shift, both (outputs,)."""
        rows = self._rows()
        self._keep(rows * along_first(scale, rows), self._bias() * scale + shift)

    def absorb_input(self, scale: Tensor, shift: Tensor) -> None:
        """Become W (scale · x + shift) + b, both (inputs,). Exact where `pads` is false."""
        rows = self._rows()
        added = (rows * self._by_row(shift, rows)).flatten(1).sum(1)
        self._keep(rows * self._by_row(scale, rows), self._bias() + added)

    @property
    def _kept(self) -> Tensor:
        weight = self.layer.weight
        assert isinstance(weight, Tensor)
        return weight

    def _rows(self) -> Tensor:
        kept = self._kept.detach().double()
        if self.transposed:
            kept = torch.unflatten(kept, 0, (self.groups, -1)).transpose(1, 2)
        return kept.flatten(0, 1) if self.batched or self.transposed else kept

    def _bias(self) -> Tensor:
        bias = self.layer.bias
        if bias is None:
            return torch.zeros(self.outputs, dtype=torch.float64, device=self._kept.device)
        assert isinstance(bias, Tensor)
        return bias.detach().double().flatten()

    def _by_row(self, vector: Tensor, rows: Tensor) -> Tensor:
        """(inputs,) as (outputs, inputs/G, 1, …): the values that each row multiplies."""
        each = vector.view(self.groups, 1, -1).expand(-1, self.outputs // self.groups, -1)
        return along_first(each.flatten(0, 1), rows)

    def _keep(self, rows: Tensor, bias: Tensor) -> None:
        old = self._kept
        if self.transposed:
            rows = torch.unflatten(rows, 0, (self.groups, -1)).transpose(1, 2)
        weight = torch.empty_like(old).copy_(rows.reshape(old.shape))  # in its old memory order
        self.layer.weight = nn.Parameter(weight, old.requires_grad)
        shape = old.shape[:2] if self.batched else (-1,)
        self.layer.bias = nn.Parameter(bias.to(old.dtype).view(shape), old.requires_grad)


def linear(layer: nn.Module) -> Linear | None:
    """A layer as `Linear`; None if it does not compute W x + b with its own weight.

    The weight map of a stacked layer is not part of W.
    """
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, Tensor) or is_lazy(weight) or isinstance(layer, torch.jit.ScriptModule):
        return None
    if is_stacked(layer):
        if weight.dim() == 3:
            return Linear(layer, weight.shape[0], batched=True)
        return Linear(layer, int(getattr(layer, "lanes", 1)))
    if type(layer).forward not in FORWARDS or "forward" in vars(layer):
        return None
    groups = int(getattr(layer, "groups", 1))
    return Linear(layer, groups, transposed=isinstance(layer, TRANSPOSED))


def is_stacked(layer: nn.Module) -> bool:
    """Whether a layer is a stacked linear layer: it has a weight map and a weight by role."""
    roles = getattr(layer, "roles", {})
    return isinstance(getattr(layer, "weight_norm", None), nn.Module) and roles.get("weight") == "weight"
