"""Swapping the norm layers of a model that was built without this package."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from normbench import norms
from normbench.errors import InputError, unknown
from normbench.norms.surgery.changes import Change
from normbench.norms.surgery.recognise import Found, survey
from normbench.norms.surgery.replacement import Succession


def convert(
    model: nn.Module,
    key: str,
    *,
    sites: str | Sequence[str] = "*",
    report: list[Change] | None = None,
    **args: Any,
) -> nn.Module:
    """Replace the norm layers of a model in place.

    Replaced are batch, instance, group, layer and RMS norms of torch, batch norms with frozen parameters,
    what torchvision and timm derive from these, and this package's own layers.

    - γ and β are carried over where both layers have them in the same shape; running statistics between
      methods of the batch family that keep the same ones. A layer of the same method, or of one that is a
      form of it, keeps ε, affine, track, the number of groups and momentum, too, unless `args` say otherwise:
      bn for BatchNorm2d, gn for GroupNorm, ln_c for LayerNorm compute what they replace. Momentum is not
      kept by a method whose training reads running statistics. Other methods start from their own defaults.
    - Device, dtype, mode and site follow the layer replaced; half precision becomes fp32, as in every layer
      of this package. A layer that is used in several places stays one layer.
    - Where channels are the last axis, as in transformers, the new layer is wrapped in a `LastAxis`. The
      first axis must be the images then (batch_first).
    - An activation inside a layer (timm's BatchNormAct2d) stays, behind the new one. A method that stands for
      its activation takes the place of the ReLU that alone reads it; where none does, it is built without.
    - A method that looks at the layer before it is shown the convolution or linear layer that feeds it, where
      that can be told.

    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    >>> report = []
    >>> convert(model, "gn", group_size=4, report=report)[1].num_groups
    2
    >>> print(*report, sep="\\n")
    1: BatchNorm2d → gn, kept γ, β

    Args:
        model:  any module that holds norm layers.
        key:    a key of `norms.catalogue()`.
        sites:  paths of the layers to replace, as `model.named_modules()` has them; patterns such as
                `layer1.*`, or several.
        report: a list that gets one `Change` for every norm layer of the model, those left alone included.
        args:   the method's own arguments.

    Returns:
        The model.

    Raises:
        InputError: the model holds no norm layer that could be replaced, no layer answers to a pattern, or
            `key` or `args` do not fit; the layer is named. Nothing is replaced then.
    """
    plan = Succession(model, norms.entry(key), args)
    known = list(survey(model))
    chosen = _chosen(sites, [path for path, _, found in known if isinstance(found, Found)])
    for path, layer, found in known:
        if isinstance(found, Found) and path in chosen:
            plan.replace(path, found)
        else:
            why = found if isinstance(found, str) else "it is not among the sites"
            plan.changes.append(Change(path, type(layer).__name__, None, note=why))
    if not plan.swaps or model in plan.swaps:
        given = f"a {type(model).__name__}" + ("" if plan.swaps else " with none")
        if plan.changes and not plan.swaps:
            given += f" that can be replaced ({plan.changes[0]})"
        raise InputError(
            f"convert needs a model that holds batch, instance, group or layer norm layers; got {given}"
        )
    swap(model, plan.swaps)
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoder):  # nested tensors are for torch's own layer norm alone
            module.use_nested_tensor = False
    if report is not None:
        report.extend(plan.changes)
    return model


def swap(model: nn.Module, swaps: dict[nn.Module, nn.Module]) -> None:
    """Put new layers where the old ones stand, wherever that is."""
    for parent in list(model.modules()):
        for name, child in parent._modules.items():
            if child in swaps:
                parent._modules[name] = swaps[child]


def _chosen(sites: str | Sequence[str], paths: list[str]) -> set[str]:
    chosen: set[str] = set()
    for pattern in [sites] if isinstance(sites, str) else sites:
        hits = {path for path in paths if fnmatchcase(path, pattern)}
        if not hits and pattern != "*":
            raise unknown("site", pattern, paths, remedy="sites takes paths or patterns such as 'layer1.*'")
        chosen |= hits
    return chosen
