"""A module → the Python text that builds it, in layers of torch, of `parts`, and our own norms if need be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from textwrap import indent
from typing import Any

from torch import nn

from normbench.errors import InputError
from normbench.export import parts
from normbench.norms import Norm

#: Layers whose `extra_repr` names arguments that some versions of torch do not take.
_WRITTEN: Mapping[type[nn.Module], Callable[[Any], str]] = {
    nn.BatchNorm1d: lambda m: f"{m.num_features}, eps={m.eps}, momentum={m.momentum}",
    nn.BatchNorm2d: lambda m: f"{m.num_features}, eps={m.eps}, momentum={m.momentum}",
    nn.GroupNorm: lambda m: f"{m.num_groups}, {m.num_channels}, eps={m.eps}",
    nn.InstanceNorm2d: lambda m: f"{m.num_features}, eps={m.eps}, affine=True",
    nn.LayerNorm: lambda m: f"{m.normalized_shape[0]}, eps={m.eps}",
    nn.RMSNorm: lambda m: f"{m.normalized_shape[0]}, eps={m.eps}",
    parts.Subsample: lambda m: f"{m.stride}, {m.extra_channels}",
    parts.Scale: lambda m: "",
    parts.Shift: lambda m: "",
}


def source_of(module: nn.Module, norm_arguments: Mapping[str, Any]) -> str:
    """A Python expression for the module with new weights. Needs `nn`, the classes of `parts`, and `norms`.

    Args:
        norm_arguments: the arguments of the run's norm, for layers that torch does not have.

    Raises:
        InputError: the module has a layer that has no such text.
    """
    if type(module) is nn.Sequential:
        return _call("nn.Sequential", [source_of(child, norm_arguments) for child in module])
    if isinstance(module, parts.Residual):
        inner = (module.entry, module.branch, module.shortcut, module.tail)
        written = [source_of(part, norm_arguments) for part in inner]
        return _call("Residual", [*written, f"shared_entry={module.shared_entry}"])
    if isinstance(module, Norm):
        own = {**norm_arguments, **({"activated": True} if module.activated else {})}
        arguments = "".join(f", {name}={value!r}" for name, value in own.items())
        return f"norms.build({module.key!r}, {module.channels}{arguments})"
    name = type(module).__name__
    if type(module) in _WRITTEN:
        prefix = "" if isinstance(module, (parts.Subsample, parts.Scale, parts.Shift)) else "nn."
        return f"{prefix}{name}({_WRITTEN[type(module)](module)})"
    if type(module).__module__.startswith("torch.nn.modules") and not list(module.children()):
        return f"nn.{name}({module.extra_repr()})"
    raise InputError(
        f"export cannot write a layer {name} of a model that was built elsewhere; "
        "use normbench.load, which gives the module itself"
    )


def _call(name: str, arguments: list[str]) -> str:
    inner = "".join(f"{argument},\n" for argument in arguments)
    return f"{name}(\n{indent(inner, '    ')})" if arguments else f"{name}()"
