"""Insert norm layers into a model, after layers that it already has."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.nn.modules.conv import _ConvNd

from normbench import norms
from normbench.errors import InputError, unknown
from normbench.norms.linear_view import is_stacked, linear
from normbench.norms.surgery.changes import Change
from normbench.norms.surgery.conversion import swap
from normbench.norms.surgery.dataflow import Links, links_of, parameters_read_elsewhere
from normbench.norms.surgery.factory import LayerFactory, method
from normbench.norms.surgery.hooks import has_hooks
from normbench.norms.surgery.neighbours import plain_linear
from normbench.norms.surgery.recognise import Found, recognize
from normbench.norms.surgery.replacement import Replacements

#: A choice of layers: a type, a path or pattern, or several of them.
After = type[nn.Module] | str | Sequence[type[nn.Module] | str]
#: Parents that only call their children. Other modules of torch may read their children's weights directly.
CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
#: Modules of torch whose output has the channels of their input.
KEEPING = ("torch.nn.modules.activation", "torch.nn.modules.pooling", "torch.nn.modules.dropout")


def insert(
    model: nn.Module,
    key: str | LayerFactory,
    *,
    after: After,
    report: list[Change] | None = None,
    **args: Any,
) -> nn.Module:
    """Insert a norm layer after chosen layers of a model, in place.

    A chosen layer is replaced by `nn.Sequential(OrderedDict(layer=…, norm=…))` under its old name. So the
    forward code of the model needs no change, and indices into an nn.Sequential stay valid. Names in the
    state_dict change: load pretrained weights first, and build the optimiser afterwards.

    - Channels are the outputs of a convolution or linear layer. After an activation, pooling or dropout layer
      they are those of the layer that alone feeds it.
    - The channel axis is 1; after a torch.nn.Linear it is the last axis.
    - Bias: if the method removes any bias before it (`Entry.removes_bias`), the bias of a chosen convolution
      or linear layer is dropped, and the report says so. Otherwise it stays.
    - Activation: as in `convert`, a method with an activation of its own replaces the ReLU that alone reads
      the layer. Without such a ReLU it is built without its activation.
    - Hooks of a chosen layer stay on that layer: they see its output before the norm.
    - A chosen layer is left alone, with the reason in the report, if a norm follows already, if its channels
      are not known, or if something reads its weight directly.

    >>> from torch import nn
    >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
    >>> report = []
    >>> insert(model, "gn", after=nn.Conv2d, group_size=4, report=report)[0].norm.num_groups
    2
    >>> print(*report, sep="\\n")
    0: Conv2d → Conv2d + gn; its bias stays
    2: Conv2d → Conv2d + gn; its bias stays

    Args:
        model:  any module.
        key:    a key of `norms.catalogue()`, or `norms.layer(key, …)`, which holds arguments, too.
        after:  the layers: a type such as nn.Conv2d, a path or a pattern such as `features.*`, or several of
                them. A pattern chooses convolution and linear layers only; a full path chooses any layer.
        report: a list; one `Change` is appended for every chosen layer.
        args:   arguments of the method. One that is called `after` or `report` is given by `norms.layer`.

    Returns:
        The model.

    Raises:
        InputError: nothing was chosen or no chosen layer can take a norm, or `key` or `args` do not fit; the
            message names the layer. Nothing is inserted then.
    """
    plan = Insertions(model, *method(key, args))
    chosen = _chosen(model, [after] if isinstance(after, (str, type)) else list(after))
    for path, layer in chosen.items():
        plan.insert(path, layer)
    if not plan.swaps or model in plan.swaps:
        raise InputError(
            f"insert needs layers inside of the model that can take a norm; got {plan.changes[0]}"
            if not plan.swaps
            else f"insert needs a layer inside of a model; got a {type(model).__name__} itself"
        )
    for layer in plan.without_bias:
        layer.register_parameter("bias", None)
    swap(model, plan.swaps)
    if report is not None:
        report.extend(plan.changes)
    return model


class Insertions(Replacements):
    """Collects what `insert` puts into a model. The model itself is not changed.

    Attributes:
        without_bias: layers whose bias is to be dropped.
    """

    def __init__(self, model: nn.Module, key: str, args: dict[str, Any]) -> None:
        super().__init__(model, norms.entry(key), args)
        self.without_bias: list[nn.Module] = []
        self._after: Links = links_of(model)
        self._before: Links = {reader: layer for layer, reader in self._after.items()}
        self._parents = [(parent, set(parent.children())) for parent in model.modules()]
        self._read_elsewhere = parameters_read_elsewhere(model)

    def insert(self, path: str, layer: nn.Module) -> None:
        """Build the norm after a layer.

        Raises:
            InputError: the method does not fit this layer; the message names it.
        """
        kind = type(layer).__name__
        size = self._channels(layer)
        why = self._refusal(layer) or (size if isinstance(size, str) else None)
        if why is not None or isinstance(size, str):
            self.changes.append(Change(path, kind, None, note=str(why)))
            return
        channels, lanes, axis = size
        seen = plain_linear(layer)
        norm, _, notes = self.build(
            path, Found(layer, self.entry.key, channels, lanes, axis), layer if seen is not None else None
        )
        if getattr(layer, "bias", None) is not None:
            drops = self.entry.removes_bias(self.args) and seen is not None and not has_hooks(layer)
            if drops and layer._parameters.get("bias") is not None:
                self.without_bias.append(layer)
                notes.insert(0, f"its bias is dropped, since {self.entry.key} removes it")
            else:
                notes.insert(0, "its bias stays")
        self.swaps[layer] = nn.Sequential(OrderedDict(layer=layer, norm=norm))
        self.swaps[layer].training = layer.training
        self.changes.append(Change(path, kind, f"{kind} + {self.entry.key}", (), "; ".join(notes)))

    def _refusal(self, layer: nn.Module) -> str | None:
        """Why nothing can be inserted after a layer; None if something can."""
        if recognize(layer) is not None:
            return "it is a norm itself"
        reader = self._after.get(layer)
        if reader is not None and recognize(reader) is not None:
            return f"{self._paths[reader]} ({type(reader).__name__}) normalizes its output already"
        for parent, children in self._parents:
            own = type(parent).__module__.startswith("torch.nn.modules") or is_stacked(parent)
            if layer in children and own and not isinstance(parent, CONTAINERS):
                return f"{type(parent).__name__} may read its weight directly"
        if layer in self._read_elsewhere:
            return "the model reads its weight directly"
        return None

    def _channels(self, layer: nn.Module) -> tuple[int, int, int] | str:
        """C, K and the channel axis of a layer's output, or why they are not known."""
        seen: nn.Module | None = layer
        while seen is not None:
            if (view := linear(seen)) is not None:
                lanes = int(getattr(seen, "lanes", 1)) if is_stacked(seen) else 1
                return view.outputs // lanes, lanes, -1 if isinstance(seen, nn.Linear) else 1
            if isinstance(seen, _ConvNd):
                return int(seen.out_channels), 1, 1
            if isinstance(seen, nn.Linear):
                return int(seen.out_features), 1, -1
            if isinstance(found := recognize(seen), Found):
                return found.channels, found.lanes, found.axis
            if not type(seen).__module__.startswith(KEEPING):
                break
            seen = self._before.get(seen)
        return "how many channels its output has is not known"


def _chosen(model: nn.Module, after: list[type[nn.Module] | str]) -> dict[str, nn.Module]:
    """The chosen layers by path, each once, in the model's order."""
    modules = dict(model.named_modules())
    linears = {path: m for path, m in modules.items() if isinstance(m, (_ConvNd, nn.Linear)) or is_stacked(m)}
    hits: set[str] = set()
    for choice in after:
        if isinstance(choice, str):
            found = {choice} & modules.keys() or {path for path in linears if fnmatchcase(path, choice)}
            if not found:
                raise unknown("layer", choice, linears, remedy="after takes types, paths or patterns")
        else:
            found = {path for path, module in modules.items() if isinstance(module, choice)}
            if not found:
                raise InputError(
                    f"insert needs a {choice.__name__} in the model; got a {type(model).__name__}"
                )
        hits |= found
    return {path: module for path, module in modules.items() if path in hits}
