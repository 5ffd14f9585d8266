"""K copies of a layer that knows nothing of lanes, as one layer of K lanes.

Every copy sees the channels of its lane, (N, C, *spatial). The parameters and buffers of the copies are kept
lane-major, as in every layer of this package, and each copy gets views of its own part. So optimisers,
checkpoints and final states treat the layer as any other. Cost: K calls instead of one.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from normbench.errors import NormError
from normbench.momentum import parse_momentum
from normbench.norms.core import Norm
from normbench.norms.lanes import per_lane

#: Arguments that lanes may differ in.
_PER_LANE = ("momentum", "eps")
#: Name of a parameter → its role. Any other one is a scale, which `optim.decay=weights` does not decay.
_ROLES = {"bias": "shift"}


class SideBySide(Norm):
    """K copies of a layer of the class `made`.

    Random numbers of the constructor are the same for all copies and every run. What a copy keeps outside
    parameters and buffers is lost when a run resumes.

    Shape:
        x: (N, K·C, *spatial) → y: same shape; each copy maps (N, C, *spatial) to the same shape.

    Args:
        channels: C, channels of one run.
        lanes:    K.
        args:     those of `made`; momentum and eps may be one value per lane.

    Raises:
        NormError: an argument does not fit, or a copy returns another shape.
    """

    made: ClassVar[type[nn.Module]]

    def __init__(self, channels: int, lanes: int = 1, **args: Any) -> None:
        super().__init__(channels, lanes)
        with torch.random.fork_rng(devices=[]):
            self.copies = [self._copy(lane, args) for lane in range(lanes)]
        del self.weight, self.bias  # the copies decide which of them exist
        self.shapes: dict[str, torch.Size] = {}
        self.roles: dict[str, str] = {}  # type: ignore[misc]
        for name, tensor in self.copies[0].named_parameters():
            self.register_parameter(self._keep(name, tensor), nn.Parameter(self._stacked(name)))
            self.roles[_key(name)] = _ROLES.get(name.rpartition(".")[2], "scale")
        kept = self.copies[0].state_dict()
        for name, buffer in self.copies[0].named_buffers():
            self.register_buffer(self._keep(name, buffer), self._stacked(name), persistent=name in kept)
        for name in ("weight", "bias"):
            if name not in self.shapes:
                setattr(self, name, None)
        for copy in self.copies:
            copy.to("meta")  # the copies read the stacked tensors, not their own

    def _copy(self, lane: int, args: dict[str, Any]) -> nn.Module:
        given = dict(args)
        for name in {*_PER_LANE, "seeds"} & args.keys():
            given[name] = per_lane(f"{self.key}: {name}", args[name], self.lanes)[lane]
        if "seeds" in given:
            given["seeds"] = (given["seeds"],)
        if given.get("momentum") is not None:
            given["momentum"] = self._momentum(given["momentum"])
        torch.manual_seed(0)
        return self.made(self.channels, **given)

    def _momentum(self, value: Any) -> float:
        momentum = parse_momentum(value, f"{self.key}: momentum")
        if momentum.kind != "ema":
            raise NormError(f"{self.key}: momentum must be a number in a layer without lanes; got {momentum}")
        return momentum.rate

    def _keep(self, name: str, tensor: Tensor) -> str:
        self.shapes[name] = tensor.shape
        return _key(name)

    def _stacked(self, name: str) -> Tensor:
        """The tensors of that name of all copies, lane-major: (K·d, …), or (K,) for single numbers."""
        found = [dict(_tensors(copy))[name].detach() for copy in self.copies]
        return torch.stack(found).flatten(0, 1) if found[0].dim() else torch.stack(found)

    def normalize(self, x: Tensor) -> Tensor:
        if self.lanes == 1:
            return self._of_lane(0, x)
        lanes = x.unflatten(1, (self.lanes, -1)).unbind(1)
        return torch.cat([self._of_lane(lane, part) for lane, part in enumerate(lanes)], 1)

    def _of_lane(self, lane: int, x: Tensor) -> Tensor:
        """The output of a copy: (N, C, *spatial) → the same shape."""
        views = {name: self._view(name, lane) for name in self.shapes}
        used = dict(views)
        y = functional_call(self.copies[lane], used, (x,), tie_weights=False)
        for name, _ in self.copies[lane].named_buffers():
            if used[name] is not views[name]:  # the copy put another tensor in place of its buffer
                with torch.no_grad():
                    views[name].copy_(used[name])
        if not isinstance(y, Tensor) or y.shape != x.shape:
            got = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
            raise NormError(
                f"{self.key}: the output must have the shape of the input, {tuple(x.shape)}; got {got}"
            )
        return y

    def _view(self, name: str, lane: int) -> Tensor:
        shape = self.shapes[name]
        stacked: Tensor = getattr(self, _key(name))
        return stacked.unflatten(0, (self.lanes, *shape[:1]))[lane] if shape else stacked[lane]

    def begin_step(self, step: int, steps: int) -> None:
        for copy in self.copies:
            if isinstance(copy, Norm):
                copy.begin_step(step, steps)

    def train(self, mode: bool = True) -> SideBySide:
        for copy in self.copies:
            copy.train(mode)
        super().train(mode)
        return self


def side_by_side(made: type[nn.Module]) -> type[SideBySide]:
    """The class of layers of K copies of `made`, whose constructor takes the channels and no lanes."""
    channels, *others = inspect.signature(made).parameters.values()
    lanes = inspect.Parameter("lanes", inspect.Parameter.POSITIONAL_OR_KEYWORD, default=1)
    named = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in others if p.kind not in _OPEN]
    return type(
        made.__name__,
        (SideBySide,),
        {
            "made": made, "__doc__": made.__doc__, "__module__": made.__module__,
            "__signature__": inspect.Signature([channels, lanes, *named]),
        },
    )  # fmt: skip


_OPEN = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _tensors(layer: nn.Module) -> Sequence[tuple[str, Tensor]]:
    return [*layer.named_parameters(), *layer.named_buffers()]


def _key(name: str) -> str:
    """A name without dots, which parameters of a module cannot have."""
    return name.replace(".", "/")
