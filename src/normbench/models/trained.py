"""Which parameters train: the values of `optim.train`.

    all         every parameter
    norm        the parameters of norm layers: γ, β, and whatever else a norm learns
    norm+head   those, and weight and bias of the classifier

A frozen parameter keeps its initial value: it has no gradient, no weight decay and no optimiser state. The
gain of a weight map (`weight=wn`) and the scalars of residual branches belong to no norm layer, so `norm`
freezes them. Buffers are not parameters: running statistics move as always.

`gammas` names the scales that the penalty `optim.gamma_l1` acts on.

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


def gammas(network: nn.Module) -> list[str]:
    """Names of the γ of all norm layers: the scale of each channel."""
    return [
        f"{name}.weight"
        for name, module in network.named_modules()
        if isinstance(module, Norm) and module.weight is not None
    ]


def check_gammas(network: nn.Module, gamma_l1: float) -> None:
    """Refuse a penalty on scales that the net does not have.

    Raises:
        InputError: `optim.gamma_l1` is above 0 and no norm layer has a γ.
    """
    if gamma_l1 and not gammas(network):
        raise InputError(
            f"optim.gamma_l1={gamma_l1:g} is a penalty on the γ of norm layers, but this net has none; "
            "use a norm with norm.affine=true, or optim.gamma_l1=0"
        )
