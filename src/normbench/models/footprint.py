"""What a lane of a run needs in memory, and whether the run can train at all, from a pass of one image."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from normbench import norms
from normbench.data.shape import Shape
from normbench.errors import InputError, NormError
from normbench.models.keys import of_norm
from normbench.models.network import build
from normbench.norms import Norm
from normbench.spec import RunSpec
from normbench.weight_norms import WeightNorm


def check(spec: RunSpec, image: Shape) -> None:
    """Refuse a run that cannot train, before it starts. Costs one forward pass of one image.

    Raises:
        InputError: as `build`; images too small for the model; a norm whose statistics would average a single
            value, with its site; a test split smaller than one batch of a norm without running statistics.
    """
    per_statistic = spec.total if "total" in norms.entry(spec.norm.name).arguments else spec.batch
    if spec.norm.args.get("track") is False and image.test_images < per_statistic:
        raise InputError(
            f"norm={spec.norm.name} without running statistics is evaluated on batches of {per_statistic}, "
            f"but the test split of {spec.data.name} holds {image.test_images} images; lower batch or use "
            "norm.args.track=true"
        )
    footprint(spec, image)


def footprint(spec: RunSpec, image: Shape) -> int:
    """Estimated peak memory of one lane in training, in bytes: weights, gradients, optimiser state, images
    and activations. Convolutions by `matmul` take more.

    Raises:
        InputError: as `check`.
    """
    fixed, per_image = _footprint(spec, image)
    return fixed + per_image * spec.total


def image_footprint(spec: RunSpec, image: Shape) -> int:
    """Bytes of one image and its activations in a lane.

    Raises:
        InputError: as `check`.
    """
    return _footprint(spec, image)[1]


def _footprint(spec: RunSpec, image: Shape) -> tuple[int, int]:
    """Bytes of a lane without images, and bytes per image."""
    key = spec.stack_key(), image
    if key not in _footprints:
        _footprints[key] = _count_bytes(spec, image)
    return _footprints[key]


_footprints: dict[tuple[str, Shape], tuple[int, int]] = {}  # PERF: a sweep needs each several times


def _count_bytes(spec: RunSpec, image: Shape) -> tuple[int, int]:
    network = build([spec], image, dry=True)
    for site, layer in network.norms().items():
        layer.forward = _check_only(site, layer, spec.total)  # type: ignore[method-assign, assignment]
    activations = image.channels * image.size**2

    def count(module: nn.Module, inputs: object, output: Tensor) -> None:
        nonlocal activations
        activations += output.numel()

    for module in network.modules():
        leaf = all(isinstance(child, WeightNorm) for child in module.children())
        if leaf and not isinstance(module, WeightNorm):
            module.register_forward_hook(count)
    try:
        with torch.no_grad():
            network(torch.zeros(1, image.channels, image.size, image.size))
    except InputError:
        raise
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise InputError(
            f"model {spec.model.name} cannot take images of {image.size}×{image.size}: {reason}"
        ) from None
    weights = sum(p.numel() for p in network.parameters())
    trained_weights = sum(p.numel() for p in network.trained_parameters().values())
    bytes_per_number = 8 if spec.engine.precision == "fp64" else 4
    # the gradient, at most two states of the optimiser, and the average
    copies = 3 if spec.optim.ema is None else 4
    return bytes_per_number * (weights + copies * trained_weights), bytes_per_number * activations


def _check_only(site: str, layer: Norm, images: int) -> Callable[[Tensor], Tensor]:
    """A forward pass for dry runs with one image: checks the shape of a step of `images` images."""

    def forward(x: Tensor) -> Tensor:
        try:
            layer.check((images, *x.shape[1:]))
        except NormError as error:
            raise NormError(f"site {site}: {of_norm(error, layer.key)}") from None
        return x

    return forward
