"""Network: K runs as one module, and the check that refuses what cannot be built before anything trains."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from normbench import norms
from normbench.data.shape import Shape
from normbench.errors import InputError, NormError, unknown
from normbench.models import branch, lenet, lsuv, mlp, resnet, vgg
from normbench.models.builder import Builder
from normbench.models.layers import Dropout
from normbench.models.sites import selected
from normbench.norms import Norm
from normbench.spec import RunSpec
from normbench.weight_norms import WeightNorm

PLAIN = ("conv_norm_act", "conv_act_norm")
RESIDUAL = tuple(resnet.BASIC)


@dataclass(frozen=True)
class Architecture:
    """How a family of models is built, the image side it needs (None: any) and the placements it has."""

    build: Callable[[Builder], nn.Module]
    size: int | None
    placements: tuple[str, ...]


ARCHITECTURES = {
    "mlp": Architecture(mlp.mlp, None, PLAIN),
    "lenet300": Architecture(mlp.lenet300, 28, PLAIN),
    "lenet5": Architecture(lenet.lenet5, 32, PLAIN),
    **{name: Architecture(vgg.vgg, 32, PLAIN) for name in vgg.STAGES},
    **{name: Architecture(resnet.resnet, None, RESIDUAL) for name in resnet.DEPTHS},
}


class Network(nn.Module):
    """K stacked runs.

    Shape:
        x: (N, K·C, H, W) → logits: (N, K, classes)
    """

    def __init__(self, body: nn.Module, lanes: int, sites: Sequence[str]) -> None:
        super().__init__()
        self.body, self.lanes, self.sites = body, lanes, tuple(sites)
        self.train()

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.body(x).unflatten(1, (self.lanes, -1))
        return logits

    def begin_step(self, step: int, steps: int) -> None:
        """Tell layers that draw random numbers or follow a schedule that step `step` of `steps` begins."""
        for layer in self._told:
            layer.begin_step(step, steps)

    def phase(self, step: int, steps: int) -> int:
        """How many times the forward pass has become another until a step: it is the same within a phase."""
        return sum(step / steps >= turn for turn in self._phase_changes)

    def train(self, mode: bool = True) -> Network:
        """As torch's; looks anew for the layers that `begin_step` tells, which may have been replaced."""
        self._told = [module for module in self.modules() if isinstance(module, Dropout | Norm)]
        self._phase_changes = {
            layer.phase_change_at for layer in self.norms().values() if layer.phase_change_at is not None
        }
        return super().train(mode)

    def norms(self) -> dict[str, Norm]:
        """The norm layers by site, in the order of the sites."""
        layers = {m.site: m for m in self.modules() if isinstance(m, Norm)}
        return {site: layers[site] for site in self.sites if site in layers}

    def roles(self) -> dict[str, str]:
        """What every parameter is: weight, bias, scale (γ and what else scales), shift (β), mixture (logits)
        or scalar (Fixup's).
        """
        return {
            f"{prefix}.{name}" if prefix else name: module.roles[name]
            for prefix, module in self.named_modules()
            for name, _ in module.named_parameters(recurse=False)
        }


def build(specs: Sequence[RunSpec], image: Shape, *, dry: bool = False) -> Network:
    """Build the network of a stack; its weights follow from each run's seed alone.

    Args:
        specs: the K runs, equal but for lane fields.
        image: channels, size and classes of the data as the network gets them.
        dry:   leave the weights at one, for a look at shapes and counts.

    Raises:
        InputError: an unknown model, a placement or site that it does not have, or norm arguments that do not
                    fit a site.
    """
    plan = architecture(specs[0])
    scout = Builder(tuple(specs), image, chosen=None, dry=True)
    plan.build(scout)
    chosen = selected(specs[0].placement.sites, scout.sites)
    return Network(plan.build(Builder(tuple(specs), image, chosen, dry)), len(specs), scout.sites)


def architecture(spec: RunSpec) -> Architecture:
    """The architecture of a run's model, what `model` and `placement` ask of it checked."""
    name = spec.model.name
    if name not in ARCHITECTURES:
        raise unknown("model", name, ARCHITECTURES)
    plan = ARCHITECTURES[name]
    if spec.placement.name not in plan.placements:
        raise InputError(
            f"model {name} has no placement {spec.placement.name}; it has {', '.join(plan.placements)}"
        )
    branch.check(spec, residual=plan.placements is RESIDUAL)
    lsuv.check(spec)
    return plan


def fitted_size(spec: RunSpec) -> int | None:
    """The image side that the run's model needs, None where it takes any."""
    return architecture(spec).size


def fitted(spec: RunSpec, image: Shape) -> Shape:
    """What the run's model gets of data of some shape."""
    return image.resized(fitted_size(spec) or image.size)


def check(spec: RunSpec, image: Shape) -> None:
    """Refuse a run that cannot train as asked, before it starts, at the price of one image's forward pass.

    Raises:
        InputError: as `build`, or a norm whose statistics would average a single value; the site is named.
    """
    together = spec.total if "total" in norms.entry(spec.norm.name).arguments else spec.batch
    if spec.norm.args.get("track") is False and image.test_images < together:
        raise InputError(
            f"norm={spec.norm.name} without running statistics is evaluated on batches of {together}, but "
            f"the test split of {spec.data.name} holds {image.test_images} images; lower batch or use "
            "norm.args.track=true"
        )
    footprint(spec, image)


def footprint(spec: RunSpec, image: Shape) -> int:
    """About the bytes that a lane takes in training at most: weights, gradients, optimiser state, images and
    activations. Convolutions by `matmul` take more.

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


_footprints: dict[tuple[str, Shape], tuple[int, int]] = {}  # PERF: a sweep asks for each several times


def _count_bytes(spec: RunSpec, image: Shape) -> tuple[int, int]:
    network = build([spec], image, dry=True)
    for site, layer in network.norms().items():
        layer.forward = _only_check(site, layer, spec.total)  # type: ignore[method-assign, assignment]
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
    except NormError:
        raise
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"model {spec.model.name} cannot take images of {image.size}×{image.size}: {reason}"
        ) from None
    parameters = sum(p.numel() for p in network.parameters())
    width = 8 if spec.engine.precision == "fp64" else 4
    return width * 4 * parameters, width * activations


def _only_check(site: str, layer: Norm, images: int) -> Callable[[Tensor], Tensor]:
    """What a norm does in a dry run with one image: judge the shape that a step will have."""

    def forward(x: Tensor) -> Tensor:
        try:
            layer.check((images, *x.shape[1:]))
        except NormError as error:
            raise NormError(f"site {site}: {error}") from None
        return x

    return forward
