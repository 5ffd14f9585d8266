"""A norm method as a constructor of layers, for libraries that take one as `norm_layer`."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from normbench import norms
from normbench.errors import InputError, NormError, unknown
from normbench.norms.surgery.last_axis import LastAxis

#: torch's names of arguments → the names that they have here.
ALIASES = {"track_running_stats": "track", "elementwise_affine": "affine"}
#: Arguments of torch's constructors that say where a layer is, not what it computes.
PLACES = ("device", "dtype")


class LayerFactory:
    """Builds layers of one method: a callable that takes the channels, as `torch.nn.BatchNorm2d` does.

    Instances can be pickled, copied and compared.

    Args:
        key:  a key of `norms.catalogue()`.
        axis: channel axis of the inputs: 1, or -1 for the last. Layers are wrapped in a `LastAxis` for -1.
        args: arguments of the method.

    Raises:
        InputError: an unknown key or argument, or another axis.
    """

    def __init__(self, key: str, axis: int = 1, **args: Any) -> None:
        self.entry_key, self.axis = norms.entry(key).key, axis
        if axis not in (1, -1):
            raise InputError(f"the channel axis of a norm layer must be 1 or -1; got {axis!r}")
        self.args = self._translated(args, known_only=True)
        self.__name__ = f"norms.layer({key!r})"  # libraries print the name of a constructor

    def __call__(self, channels: int, *unexpected: Any, **args: Any) -> nn.Module:
        """Build a layer for so many channels; arguments of the call win, as in `functools.partial`.

        Raises:
            NormError: an argument that the method does not have or that is out of range.
        """
        if isinstance(channels, (list, tuple, torch.Size)) and len(channels) == 1:
            (channels,) = channels  # as torch.nn.LayerNorm takes them
        if unexpected:
            raise NormError(
                f"{self.__name__} takes channels and named arguments; got {len(unexpected)} more unnamed"
            )
        place = {name: args.pop(name) for name in PLACES if args.get(name, self) is not self}
        given = self._translated(args)
        groups = {"num_groups", "group_size"}  # two ways to say the same: those of the call win
        kept = {n: v for n, v in self.args.items() if n not in groups or not groups & given.keys()}
        layer = norms.build(self.entry_key, channels, **kept | given)
        layer.to(**place)
        return layer if self.axis == 1 else LastAxis(layer)

    def _translated(self, args: dict[str, Any], *, known_only: bool = False) -> dict[str, Any]:
        """Arguments by the names of this package, torch's names included."""
        names = norms.arguments(norms.entry(self.entry_key).layer)
        result: dict[str, Any] = {}
        for given, value in args.items():
            name = ALIASES.get(given, given) if given not in names else given
            if name not in names and (given != "bias" or "affine" not in names):
                if known_only:
                    raise unknown(f"argument of norm {self.entry_key}", given, names)
                raise NormError(
                    f"{self.__name__} was called with {given}={value!r}, but norm {self.entry_key} has no "
                    f"{given} (it has: {', '.join(names) or 'no arguments'}); build the model without it"
                )
            if name == "momentum" and value is None:  # torch's cumulative average
                value = "cumulative"
            result[name] = value
        if (bias := result.pop("bias", None)) is False and result.get("affine", True) is True:
            result["affine"] = "weight"
        elif bias not in (None, True, False):
            raise NormError(f"{self.__name__}: bias must be true or false; got {bias!r}")
        return result

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LayerFactory) and self._state == other._state

    def __hash__(self) -> int:
        return hash(repr(self._state))

    def __repr__(self) -> str:
        axis = [] if self.axis == 1 else [f"axis={self.axis}"]
        words = [repr(self.entry_key), *axis, *(f"{name}={value!r}" for name, value in self.args.items())]
        return f"norms.layer({', '.join(words)})"

    @property
    def _state(self) -> tuple[str, int, list[tuple[str, Any]]]:
        return self.entry_key, self.axis, sorted(self.args.items())


def method(key: str | LayerFactory, args: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The key and the arguments of a method that is given by its key or by `layer`.

    Raises:
        InputError: the factory says which axis holds the channels, which convert and insert find themselves.
    """
    if not isinstance(key, LayerFactory):
        return key, args
    if key.axis != 1:
        raise InputError(f"convert and insert find the channel axis themselves; got {key!r}. Leave axis out")
    return key.entry_key, key.args | args


def layer(key: str, *, axis: int = 1, **args: Any) -> LayerFactory:
    """A method as a constructor of layers: what libraries take as `norm_layer`.

    It also takes the arguments of torch's constructors: eps, momentum, affine, track_running_stats,
    elementwise_affine, bias, device and dtype. An argument that the method does not have is refused.
    Arguments of a call win over those given here.

    >>> from torchvision.models import resnet18
    >>> net = resnet18(weights=None, norm_layer=layer("gn", group_size=16))
    >>> net.bn1.num_groups
    4

    Args:
        key:  a key of `norms.catalogue()`.
        axis: channel axis of the inputs: 1, or -1 for the last, as in vision transformers.
        args: arguments of the method.

    Raises:
        InputError: an unknown key or argument (the nearest names are offered), or another axis.
    """
    return LayerFactory(key, axis, **args)
