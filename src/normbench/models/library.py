"""Ordinary networks of torchvision and timm, by names such as `torchvision:resnet50`.

They are built without pretrained weights, for the number of classes of the data. torchvision's models take
three channels, so grey images are repeated. timm's are built for the channels of the data.
"""

from __future__ import annotations

import warnings
from functools import lru_cache

import torch
from torch import Tensor, nn

from normbench.data.shape import Shape
from normbench.errors import InputError, reason, unknown

#: Sides of images that are tried, in pixels. Nothing smaller: these networks halve the side five times.
SIDES = (32, 64, 75, 96, 128, 160, 224, 240, 256, 299, 384)
#: Arguments with which torchvision builds a network of one output.
_ONE_OUTPUT = {"googlenet": {"aux_logits": False}, "inception_v3": {"aux_logits": False}}


class GreyAsColour(nn.Module):
    """A network of three channels that also takes images of one, (N, 1, H, W)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.network(x.expand(-1, 3, -1, -1))
        return y


def make(name: str, image: Shape) -> nn.Module:
    """Build a network with its own random initial weights.

    Args:
        name:  LIBRARY:NAME.
        image: channels, size and classes.

    Raises:
        InputError: the library is not installed, has no such network, or cannot build it.
    """
    library, _, model = name.partition(":")
    return _of_torchvision(model, image) if library == "torchvision" else _of_timm(model, image)


def _of_torchvision(model: str, image: Shape) -> nn.Module:
    from torchvision import models

    names = models.list_models(module=models)
    if model not in names:
        raise unknown("model of torchvision", model, names)
    if image.channels not in (1, 3):
        raise InputError(f"model=torchvision:{model} takes 1 or 3 channels; the data have {image.channels}")
    given = {"weights": None, "num_classes": image.classes, **_ONE_OUTPUT.get(model, {})}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about initial weights that change in a future version
        network: nn.Module = models.get_model(model, **given)
    return network if image.channels == 3 else GreyAsColour(network)


def _of_timm(model: str, image: Shape) -> nn.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import timm
    except ImportError:
        raise InputError(
            f"model=timm:{model} needs the package timm; install it with pip install 'normbench[timm]'"
        ) from None
    if not timm.is_model(model):
        raise unknown("model of timm", model, timm.list_models())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network: nn.Module = timm.create_model(
                model, pretrained=False, num_classes=image.classes, in_chans=image.channels
            )
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"model=timm:{model} cannot be built: {reason(error)}") from None
    return network


def fitting_size(name: str, image: Shape) -> int:
    """The side in pixels of the images that a network gets: that of the data if it takes it and it is at
    least 32, else the next larger side that it takes, else the largest smaller one.

    Raises:
        InputError: as `make`, or no side is fit.
    """
    sides = sorted({*SIDES, max(image.size, SIDES[0])})
    larger = [side for side in sides if side >= image.size]
    smaller = [side for side in reversed(sides) if side < image.size]
    for side in (*larger, *smaller):
        if _takes(name, image.channels, side):
            return side
    raise InputError(f"model={name} takes no images of {sides[0]} to {sides[-1]} pixels")


@lru_cache(maxsize=256)
def _takes(name: str, channels: int, side: int) -> bool:
    """Whether a network takes images of a side. Computed from shapes alone."""
    try:
        with torch.device("meta"), torch.no_grad():
            _shapes_only(name, channels)(torch.empty(1, channels, side, side))
    except InputError:
        raise
    except Exception:  # each library has its own way to refuse a size
        return False
    return True


@lru_cache(maxsize=4)
def _shapes_only(name: str, channels: int) -> nn.Module:
    return make(name, Shape(channels, SIDES[0], 10, 1, 1)).eval()
