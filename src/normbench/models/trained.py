"""Which parameters train: the values of `optim.train`.

    all         every parameter
    norm        the parameters of norm layers: γ, β, and whatever else a norm learns
    norm+head   those, and weight and bias of the classifier

A frozen parameter keeps its initial value: it has no gradient, no weight decay and no optimiser state. The
gain of a weight map (`weight=wn`) and the scalars of residual branches belong to no norm layer, so `norm`
freezes them. Buffers are not parameters: running statistics move as always.

Reference:  frankle2021 — Training BatchNorm and Only BatchNorm, ICLR 2021, arXiv:2003.00152, §3.
"""

from __future__ import annotations

from torch import nn

from normbench.errors import InputError
from normbench.models.layers import Conv2d, Linear
from normbench.norms import Norm


def freeze(network: nn.Module, train: str) -> None:
    """Let only the parameters train that `optim.train` names, in place.

    Raises:
        InputError: there are none.
    """
    if train == "all":
        return
    network.requires_grad_(False)
    for module in network.modules():
        head = isinstance(module, Conv2d | Linear) and module.is_head
        if isinstance(module, Norm) or (head and train == "norm+head"):
            module.requires_grad_(True)
    if not any(p.requires_grad for p in network.parameters()):
        raise InputError(
            f"optim.train={train} trains the parameters of norm layers, but this net has none; "
            "use a norm with norm.affine=true, or optim.train=norm+head or all"
        )
