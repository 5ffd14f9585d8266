"""Replace the norm layers of a model that was built without this package."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from normbench import norms
from normbench.errors import InputError, unknown
from normbench.norms.surgery.changes import Change
from normbench.norms.surgery.factory import LayerFactory, method
from normbench.norms.surgery.recognise import Found, survey
from normbench.norms.surgery.replacement import Replacements


def convert(
    model: nn.Module,
    key: str | LayerFactory,
    *,
    sites: str | Sequence[str] = "*",
    report: list[Change] | None = None,
    **args: Any,
) -> nn.Module:
    """Replace the norm layers of a model in place.

    It replaces batch, instance, group, layer and RMS norms of torch, frozen batch norms, the norms that
    torchvision and timm derive from these, and this package's own layers.

    A layer is left alone, with the reason in the report, if it may compute something else than a known class:
    its type or the instance overrides something, its weight is parametrized or pruned, or it has parts of its
    own. A layer that shares a parameter with another layer is also left alone.

    Hooks on calls and on gradients move to the new layer. A layer with hooks on its state or on a parameter
    is left alone.

    - State: γ and β are copied if both layers have them in the same shape. Running statistics are copied
      between methods of the batch family that keep the same ones. What counts is what
      evaluation reads now, whatever track_running_stats says.
    - Settings: a layer of the same method, or of a variant of it, also keeps ε, affine, track, the number of
      groups and momentum, unless `args` give them. So bn for BatchNorm2d, gn for GroupNorm and ln_c for
      LayerNorm compute what the old layer computed. Momentum is not kept if training of only one of the two
      methods reads running statistics. Other methods start with their own defaults.
    - Device, dtype, mode and site are those of the old layer; half precision becomes fp32, as in every layer
      of this package. A layer that is used in several places stays one layer.
    - If channels are the last axis, as in transformers, the new layer is wrapped in a `LastAxis`. The first
      axis must then be the images (batch_first).
    - An activation inside the old layer (timm's BatchNormAct2d) stays after the new one. A method with an
      activation of its own replaces the ReLU that alone reads the layer. Without such a ReLU it is built
      without its activation.
    - A method that looks at the layer before it (`Norm.follow`) is shown the convolution or linear layer that
      feeds it.

    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    >>> report = []
    >>> convert(model, "gn", group_size=4, report=report)[1].num_groups
    2
    >>> print(*report, sep="\\n")
    1: BatchNorm2d → gn, kept γ, β

    Args:
        model:  any module with norm layers inside.
        key:    a key of `norms.catalogue()`, or `norms.layer(key, …)`, which holds arguments, too.
        sites:  paths of the layers to replace, as in `model.named_modules()`, or patterns such as
                `layer1.*`; one or several.
        report: a list; one `Change` is appended for every norm layer, also for each layer left alone.
        args:   arguments of the method.

    Returns:
        The model.

    Raises:
        InputError: the model has no norm layer that can be replaced, a pattern matches no layer, or `key` or
            `args` do not fit; the message names the layer. Nothing is replaced then.
    """
    name, args = method(key, args)
    plan = Replacements(model, norms.entry(name), args)
    known = list(survey(model))
    chosen = _chosen(sites, [path for path, _, found in known if isinstance(found, Found)])
    for path, layer, found in known:
        why = found if isinstance(found, str) else plan.obstacle(found)
        if isinstance(found, Found) and path not in chosen:
            why = "it is not among the sites"
        if isinstance(found, Found) and why is None:
            plan.replace(path, found)
        else:
            plan.changes.append(Change(path, type(layer).__name__, None, note=str(why)))
    if not plan.swaps or model in plan.swaps:
        given = f"a {type(model).__name__}" + ("" if plan.swaps else " with none")
        if plan.changes and not plan.swaps:
            given += f" that can be replaced ({plan.changes[0]})"
        raise InputError(
            f"convert needs a model that holds batch, instance, group or layer norm layers; got {given}"
        )
    swap(model, plan.swaps)
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoder):  # nested tensors work with torch's own layer norm only
            module.use_nested_tensor = False
    if report is not None:
        report.extend(plan.changes)
    return model


def swap(model: nn.Module, swaps: dict[nn.Module, nn.Module]) -> None:
    """Replace layers in every place where they stand: old layer → new layer."""
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
