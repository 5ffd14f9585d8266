"""Swapping the norm layers of a model that was built without this package."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from normbench import norms
from normbench.errors import InputError
from normbench.norms.core import Norm


def convert(model: nn.Module, key: str, **args: Any) -> nn.Module:
    """Replace every norm layer of a model in place.

    Replaced are torch's batch, instance and group norms and this package's own layers. torch.nn.LayerNorm is
    left alone: it may stand on tensors whose channels are not axis 1. γ, β and running statistics are carried
    over where both layers have them; device, dtype and mode follow the layer replaced. A layer that is used
    in several places stays one layer.

    >>> from torch import nn
    >>> convert(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)), "gn", group_size=4)[1].num_groups
    2

    Args:
        model: any module that holds norm layers.
        key:   a key of `norms.catalogue()`.
        args:  the method's own arguments.

    Returns:
        The model.

    Raises:
        InputError: the model holds no norm layer that could be replaced, or `key` or `args` do not fit; the
            layer is named. Nothing is replaced then.
    """
    replaced: dict[nn.Module, nn.Module] = {}
    for name, layer in model.named_modules():
        channels = _channels(layer)
        if channels is not None:
            replaced[layer] = _successor(layer, name, channels, key, args)
    if not replaced or model in replaced:
        raise InputError(
            "convert needs a model that holds batch, instance or group norm layers; "
            f"got a {type(model).__name__}" + ("" if replaced else " with none")
        )
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child in replaced:
                setattr(parent, name, replaced[child])
    return model


def _channels(layer: nn.Module) -> int | None:
    """Channels of a norm layer, None for any other layer."""
    if isinstance(layer, _BatchNorm | _InstanceNorm):
        return layer.num_features
    if isinstance(layer, nn.GroupNorm):
        return layer.num_channels
    return layer.channels if isinstance(layer, Norm) and layer.lanes == 1 else None


def _successor(old: nn.Module, name: str, channels: int, key: str, args: dict[str, Any]) -> Norm:
    try:
        new = norms.build(key, channels, **args)
    except InputError as error:
        raise type(error)(f"layer {name}: {error}") from None
    state = old.state_dict()
    for tensor in state.values():
        new.to(tensor.device, tensor.dtype if tensor.is_floating_point() else None)
    new.load_state_dict(
        {name: tensor for name, tensor in state.items() if name in new.state_dict()}, strict=False
    )
    return new.train(old.training)
