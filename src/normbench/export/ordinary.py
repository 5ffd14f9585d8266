"""Our stacked layers with one lane → torch's own layers, with equal outputs in evaluation.

A weight map (weight=ws) becomes the plain weight that it gives. A norm becomes the layer of torch that
computes the same, if there is one (`ordinary_norm`); otherwise it stays our own layer with one lane.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from normbench.errors import RunFailure
from normbench.export import parts
from normbench.export.ordinary_norm import ordinary_norm
from normbench.models import Network
from normbench.models.branch import FixupBias, SkipInit
from normbench.models.layers import Conv2d, Dropout, GlobalAveragePool, Linear, Subsample
from normbench.models.resnet import Residual
from normbench.norms import Norm

#: Largest difference of outputs that counts as rounding, relative to the largest output.
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12}


@torch.no_grad()
def ordinary(network: Network, example: Tensor) -> nn.Module:
    """The layers of a network of one lane as an ordinary module: (N, C, H, W) → (N, classes).

    Args:
        network: in evaluation mode, on the CPU.
        example: images that the network takes; outputs are compared on it.

    Raises:
        RunFailure: the outputs differ by more than rounding.
    """
    axes: dict[nn.Module, int] = {}
    hooks = [
        layer.register_forward_pre_hook(lambda module, inputs: axes.__setitem__(module, inputs[0].dim()))
        for layer in network.modules()
        if isinstance(layer, Norm)
    ]
    expected = network(example)[:, 0]
    for hook in hooks:
        hook.remove()
    body = simplified(_ordinary(network.body, axes)).eval()
    check_equal(expected, body(example), f"the {network.lanes}-lane network and its ordinary form")
    return body


def check_equal(expected: Tensor, found: Tensor, what: str) -> float:
    """The largest difference, relative to the largest output.

    Raises:
        RunFailure: it is more than rounding.
    """
    size = float(expected.abs().max().clamp(min=1e-30))
    off = float((expected.double() - found.double()).abs().max()) / size
    if not off <= TOLERANCE.get(expected.dtype, 1e-2):
        raise RunFailure(f"{what} must give equal outputs; they differ by {off:.1e} of the largest one")
    return off


def simplified(module: nn.Module) -> nn.Module:
    """The module without identities inside of sequences, and without names and nesting that nobody needs."""
    for name, child in list(module.named_children()):
        setattr(module, name, simplified(child))
    if type(module) is not nn.Sequential:
        return module
    kept: list[nn.Module] = []
    for child in module:
        kept += child if type(child) is nn.Sequential else [child]
    kept = [child for child in kept if type(child) is not nn.Identity]
    return kept[0] if len(kept) == 1 else nn.Sequential(*kept) if kept else nn.Identity()


def _ordinary(module: nn.Module, axes: Mapping[nn.Module, int]) -> nn.Module:
    if isinstance(module, Norm):
        return ordinary_norm(module, axes.get(module, 4))
    made = _layer(module)
    if made is not None:
        return made
    if isinstance(module, Residual):
        branches = (module.entry, module.branch, module.shortcut, module.tail)
        entry, branch, shortcut, tail = (_ordinary(part, axes) for part in branches)
        return parts.Residual(entry, branch, shortcut, tail, module.shared_entry)
    if type(module) is nn.Sequential:
        return nn.Sequential(*(_ordinary(child, axes) for child in module))
    known = copy.copy(module)  # of a model that was built elsewhere: its parts may be ours
    known._modules = {
        name: child if child is None else _ordinary(child, axes) for name, child in module._modules.items()
    }
    return known if known._modules else copy.deepcopy(module)


def _layer(module: nn.Module) -> nn.Module | None:
    """A layer of torch, or of `parts`, in place of one of ours; None if the module is no such layer."""
    if isinstance(module, Conv2d):
        weight = module.weight_norm(module.weight)
        outputs, inputs, kernel, _ = weight.shape
        made: nn.Module = nn.Conv2d(
            inputs, outputs, kernel, module.stride, module.padding, bias=module.bias is not None
        )
        return _filled(made, weight=weight, bias=module.bias)
    if isinstance(module, Linear):
        weight = module.weight_norm(module.weight)[0]
        made = nn.Linear(weight.shape[1], weight.shape[0], bias=module.bias is not None)
        return _filled(made, weight=weight, bias=None if module.bias is None else module.bias[0])
    if isinstance(module, Dropout):
        return nn.Dropout(module.rate)
    if isinstance(module, GlobalAveragePool):
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    if isinstance(module, Subsample):
        return parts.Subsample(module.stride, module.extra_channels)
    if isinstance(module, SkipInit):
        return _filled(parts.Scale(), scale=module.scale[0])
    if isinstance(module, FixupBias):
        return _filled(parts.Shift(), bias=module.bias[0])
    return None


def _filled(layer: nn.Module, **values: Any) -> nn.Module:
    """The layer with these parameters, in their type and plain memory order."""
    for name, value in values.items():
        if value is not None:
            setattr(layer, name, nn.Parameter(value.detach().clone(memory_format=torch.contiguous_format)))
    return layer
