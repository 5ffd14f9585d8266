"""Network: K runs as one module."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from normbench import parts
from normbench.data.shape import Shape
from normbench.data.shapes import shape_of
from normbench.errors import InputError, unknown
from normbench.models import alexnet, branch, lenet, lsuv, mlp, nin, ordinary, resnet, trained, vgg
from normbench.models.builder import Builder
from normbench.models.layers import Dropout
from normbench.models.ordinary import OrdinaryBody, ordinary_roles
from normbench.models.sites import selected
from normbench.models.weight_average import WeightAverage
from normbench.norms import Norm
from normbench.norms.methods.bn import BatchNorm
from normbench.norms.shared_statistics import SharedStatistics, can_share
from normbench.spec import RunSpec

PLAIN = ("conv_norm_act", "conv_act_norm")
POOLING = (*PLAIN, "conv_act_pool_norm")
RESIDUAL = tuple(resnet.BASIC)


@dataclass(frozen=True)
class Architecture:
    """A family of models.

    Attributes:
        build:      makes the layers with a builder; None: an ordinary module, see `models.ordinary`.
        size:       the image side that it needs, in pixels; None: any.
        placements: those that it has.
    """

    build: Callable[[Builder], nn.Module] | None
    size: int | None
    placements: tuple[str, ...]


ARCHITECTURES = {
    "mlp": Architecture(mlp.mlp, None, PLAIN),
    "lenet300": Architecture(mlp.lenet300, 28, PLAIN),
    "lenet5": Architecture(lenet.lenet5, 32, POOLING),
    "alexnet": Architecture(alexnet.alexnet, 32, POOLING),
    "nin": Architecture(nin.nin, 32, POOLING),
    **{name: Architecture(vgg.vgg, 32, POOLING) for name in vgg.STAGES},
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
        self.average: WeightAverage | None = None
        self.shared: SharedStatistics | None = None
        self._moving: AbstractContextManager[None] = nullcontext()
        self.train()

    def add_average(self, decay: float | None) -> None:
        """Keep a moving average of the weights from now on; None: keep none.

        The network must be on its device, in its layout, with all its banks, see `models.weight_average`.
        """
        self.average = None if decay is None else WeightAverage(self, decay)

    def share_statistics(self, images: int) -> None:
        """Let steps of that many images move the running statistics of all batch norms together, if they can.

        The network must be on its device, in its layout, with all its banks.
        """
        layers = [layer for layer in self.norms().values() if isinstance(layer, BatchNorm)]
        if len(layers) > 1 and all(can_share(layer, images) for layer in layers):
            self.shared = self._moving = SharedStatistics(layers)

    def moving_statistics(self) -> AbstractContextManager[None]:
        """A context of the forward pass of a training step."""
        return self._moving

    def forward(self, x: Tensor) -> Tensor:
        return self.logits(self.body(x))

    def logits(self, y: Tensor) -> Tensor:
        """The output of the last layer, (N, K·classes), as (N, K, classes)."""
        return y.view(y.shape[0], self.lanes, y.shape[1] // self.lanes)

    def begin_step(self, step: int, steps: int) -> None:
        """Tell the layers with random numbers or a schedule that step `step` of `steps` begins."""
        for layer in self._step_layers:
            layer.begin_step(step, steps)

    def phase(self, step: int, steps: int) -> int:
        """Number of changes of the forward pass up to a step: within a phase, its operations are the same."""
        return sum(step / steps >= change for change in self._phase_changes)

    def waits_for_host(self) -> str:
        """Why a CUDA graph cannot hold a step of this network; empty if it can."""
        waiting = {layer.key: layer.waits_for_host for layer in self.norms().values() if layer.waits_for_host}
        return "; ".join(f"the {what} of norm {key} waits for the host" for key, what in waiting.items())

    def train(self, mode: bool = True) -> Network:
        """As torch's. Also finds the layers of `begin_step` again, since some may have been replaced."""
        self._step_layers = [m for m in self.modules() if isinstance(m, Dropout | Norm | OrdinaryBody)]
        self._phase_changes = {
            layer.phase_change_at for layer in self.norms().values() if layer.phase_change_at is not None
        }
        return super().train(mode)

    def norms(self) -> dict[str, Norm]:
        """The norm layers by site, in the order of the sites."""
        layers = {m.site: m for m in self.modules() if isinstance(m, Norm)}
        return {site: layers[site] for site in self.sites if site in layers}

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """The parameters that `optim.train` lets train, by name. The others are frozen."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def roles(self) -> dict[str, str]:
        """Parameter name → role: weight, bias, scale (γ and other factors), shift (β), mixture (logits) or
        scalar (Fixup's).
        """
        return {
            f"{prefix}.{name}" if prefix else name: role
            for prefix, module in self.body.named_modules(prefix="body")
            for name, role in (getattr(module, "roles", None) or ordinary_roles(module)).items()
            if module._parameters.get(name) is not None
        }


def build(specs: Sequence[RunSpec], image: Shape, *, dry: bool = False) -> Network:
    """Build the network of a stack. The initial weights of a lane depend on its run's seed only.

    Args:
        specs: the K runs, equal except for lane fields.
        image: channels, size and classes of the network's input.
        dry:   set all weights to 1, for shapes and parameter counts.

    Raises:
        InputError: an unknown model, a placement or site that the model does not have, norm arguments that do
            not fit a site, or no parameter that `optim.train` lets train.
    """
    model = architecture(specs[0])
    if model.build is None:
        network = Network(*ordinary.body(specs, image))
        trained.freeze(network, specs[0].optim.train)
        trained.check_gammas(network, specs[0].optim.gamma_l1)
        return network
    listing = Builder(tuple(specs), image, dry=True)
    model.build(listing)
    norm_sites = selected(specs[0].placement.sites, listing.sites)
    builder = Builder(tuple(specs), image, norm_sites, dry)
    network = Network(model.build(builder), len(specs), listing.sites)
    trained.freeze(network, specs[0].optim.train)
    trained.check_gammas(network, specs[0].optim.gamma_l1)
    return network


def architecture(spec: RunSpec) -> Architecture:
    """The architecture of a run's model.

    Raises:
        InputError: an unknown model, or a placement, branch or initialisation that does not fit it.
    """
    name = spec.model.name
    if parts.trains_alone(name):
        ordinary.check(spec)
        return Architecture(None, ordinary.needed_size(name), ordinary.PLACEMENTS)
    part = parts.find("model", name)
    if part is None and name not in ARCHITECTURES:
        raise unknown("model", name, [*ARCHITECTURES, *parts.names("model")])
    model = ARCHITECTURES[name] if part is None else Architecture(part.made, **part.facts)
    if spec.placement.name not in model.placements:
        raise InputError(
            f"model {name} has no placement {spec.placement.name}; it has {', '.join(model.placements)}"
        )
    branch.check(spec, residual=model.placements is RESIDUAL)
    lsuv.check(spec)
    return model


def fitted(spec: RunSpec, image: Shape) -> Shape:
    """The shape of data after its images are fitted to the run's model."""
    model = architecture(spec)
    if model.build is None and model.size is None:
        return image.resized(ordinary.fitting_size(spec.model.name, image))
    return image.resized(model.size or image.size)


def fitted_size(spec: RunSpec, cache: Path | None = None) -> int:
    """The side to which `data.load` must bring the images of a run.

    Args:
        cache: the folder of decoded images, as for `data.load`.
    """
    return fitted(spec, shape_of(spec.data, cache)).size
