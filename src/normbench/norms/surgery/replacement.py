"""Build the layers that replace a model's norm layers."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from itertools import chain
from typing import Any

import torch
from torch import nn

from normbench import norms
from normbench.errors import InputError
from normbench.norms.core import Norm
from normbench.norms.registry import Entry
from normbench.norms.surgery.changes import Change
from normbench.norms.surgery.dataflow import Links, links_of
from normbench.norms.surgery.hooks import bound_hooks, has_hooks, move_hooks
from normbench.norms.surgery.kept_state import SYMBOLS, kept_names
from normbench.norms.surgery.known_layers import replaced_on_instance
from normbench.norms.surgery.last_axis import LastAxis
from normbench.norms.surgery.neighbours import plain_linear
from normbench.norms.surgery.recognise import Found


class Replacements:
    """Collects new layers for a model. The model itself is not changed.

    Args:
        model: any module.
        entry: the new method.
        args:  arguments of the new method.

    Attributes:
        swaps:   old layer → new one.
        changes: the report.
    """

    def __init__(self, model: nn.Module, entry: Entry, args: dict[str, Any]) -> None:
        self.model, self.entry, self.args = model, entry, args
        self.swaps: dict[nn.Module, nn.Module] = {}
        self.changes: list[Change] = []
        self._owners: dict[int, set[nn.Module]] = defaultdict(set)
        for module in model.modules():
            for parameter in module.parameters(recurse=False):
                self._owners[id(parameter)].add(module)
        self._paths = {module: path for path, module in model.named_modules()}
        self._follows = entry.layer.follow is not Norm.follow
        self._after: Links = links_of(model) if entry.activates or self._follows else {}
        self._before: Links = {reader: layer for layer, reader in self._after.items()}

    def obstacle(self, found: Found) -> str | None:
        """Why a layer cannot be replaced without losing something that is not its own; None if it can."""
        for module in found.layer.modules():
            if (reason := bound_hooks(module)) is not None:
                return reason
            if module is not found.layer and module not in found.tail.values() and has_hooks(module):
                return "a layer inside of it has hooks"
        scale, shift = (found.layer._parameters.get(name) for name in ("weight", "bias"))
        if scale is not None and scale is shift:
            return "its weight and bias are one parameter"
        inside = set(found.layer.modules())
        for name, parameter in found.layer.named_parameters():
            if others := self._owners[id(parameter)] - inside:
                where = sorted(self._paths[other] for other in others)[0]
                return f"{where or 'the model'} uses its {name.rpartition('.')[2]}, too"
        return None

    def replace(self, path: str, found: Found) -> None:
        """Build the layer that replaces another.

        Raises:
            InputError: the method does not fit this layer; the message names it.
        """
        whole, kept, notes = self.build(path, found, self._feeder(found))
        self.swaps[found.layer] = whole
        kept += ["hooks"] * move_hooks(found.layer, whole)
        old = type(found.layer).__name__
        self.changes.append(Change(path, old, self.entry.key, tuple(kept), "; ".join(notes)))

    def build(
        self, path: str, found: Found, feeder: nn.Module | None
    ) -> tuple[nn.Module, list[str], list[str]]:
        """The norm for one place, what it took over from the layer found there, and notes for the report.

        Args:
            path:   of the place, for error messages and `Norm.site`.
            found:  the old norm, or the layer after which a norm is inserted.
            feeder: the convolution or linear layer that feeds the norm, if there is one.

        Raises:
            InputError: the method does not fit; the message names the place.
        """
        args, notes, tail = dict(self.args), [found.note] * bool(found.note), dict(found.tail)
        same = {name: value for name, value in self._settings(found).items() if name not in args}
        if self.entry.activates and "activated" not in args:
            args["activated"], note = self._activation(found, tail)
            notes.append(note)
        try:
            new = norms.build(self.entry.key, found.channels, found.lanes, **same, **args)
            if self._follows:
                new.follow(feeder)
                notes.append(f"fed by {self._paths[feeder]}" if feeder else "no layer feeds it alone")
        except InputError as error:
            raise type(error)(f"layer {path}: {error}") from None
        new.site = found.layer.site if isinstance(found.layer, Norm) and found.layer.site else path
        self._move(new, found)
        kept = _carry_over(found, new, self.entry)
        kept += [f"{name}={same[name]}" for name in ("momentum", "eps", "num_groups") if name in same]
        return _with_tail(found, new.train(found.layer.training), tail), kept, notes

    def _settings(self, found: Found) -> dict[str, Any]:
        """The old layer's settings that have the same meaning for the new one."""
        old = norms.entry(found.key)
        if not (issubclass(self.entry.layer, old.layer) or issubclass(old.layer, self.entry.layer)):
            return {}
        strange = {"num_groups"} if "group_size" in self.args else set()
        if self.entry.reads_history != old.reads_history:
            strange.add("momentum")
        takes = self.entry.arguments.keys() - strange
        return {name: value for name, value in found.settings.items() if name in takes}

    def _activation(self, found: Found, tail: dict[str, nn.Module]) -> tuple[bool, str]:
        """Whether the new layer includes the activation after it, which is then removed; and a note."""
        inside: list[nn.Module | None] = [*tail.values()]
        (act, *more) = inside or [self._after.get(found.layer)]
        if act is None:
            return False, "without its activation: no single layer reads it alone"
        if more or type(act) is not nn.ReLU:
            return False, f"without its activation: {type(act).__name__} follows"
        name = "its ReLU" if inside else self._paths[act]
        if has_hooks(act) or (not inside and has_hooks(found.layer)):
            return False, f"without its activation: it or {name} has hooks"
        if replaced_on_instance(act) is not None:
            return False, f"without its activation: {name} has a forward of its own"
        if inside:
            tail.clear()
        else:
            self.swaps[act] = nn.Identity()
        return True, f"replaces {name}, too"

    def _feeder(self, found: Found) -> nn.Module | None:
        """The convolution or linear layer whose output channels are the norm's channels."""
        feeder = self._before.get(found.layer)
        seen = None if feeder is None else plain_linear(feeder)
        fits = seen is not None and seen.outputs == found.channels * found.lanes and not seen.transposed
        return feeder if fits else None

    def _move(self, new: Norm, found: Found) -> None:
        """Move to the old layer's device and dtype; to the model's if the old layer has no tensors."""
        tensors = chain(found.state.values(), self.model.parameters(), self.model.buffers())
        like = next((tensor for tensor in tensors if tensor.is_floating_point()), None)
        if like is None:
            return
        new.to(like.device)
        dtype = torch.promote_types(like.dtype, torch.float32)
        if any(t.is_floating_point() and t.dtype != dtype for t in new.state_dict().values()):
            new.to(dtype)


def _with_tail(found: Found, new: Norm, tail: dict[str, nn.Module]) -> nn.Module:
    layer = LastAxis(new) if found.axis == -1 else new
    whole = nn.Sequential(OrderedDict({"norm": layer, **tail})) if tail else layer
    layer.training = whole.training = new.training
    return whole


def _carry_over(found: Found, new: Norm, entry: Entry) -> list[str]:
    """Copy the state that has the same meaning in both layers; names of what was copied."""
    mine = new.state_dict()
    common = {n: t for n, t in found.state.items() if n in mine and mine[n].shape == t.shape}
    parameters = dict(new.named_parameters()).keys()
    statistics = mine.keys() - parameters
    kept = kept_names(found.key, entry.key, list(common), parameters, mine.keys())
    for name in kept:
        with torch.no_grad():
            mine[name].copy_(common[name])
        if isinstance(common[name], nn.Parameter):
            new.get_parameter(name).requires_grad_(common[name].requires_grad)
    return list(dict.fromkeys("statistics" if n in statistics else SYMBOLS.get(n, n) for n in kept))
