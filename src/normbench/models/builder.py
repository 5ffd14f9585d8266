"""Builder: makes the stacked layers of a model and decides what stands at each site.

A model's module names its layers and sites and connects them. The builder decides whether the norm stands at
a site, in which order norm and activation come, and whether a layer has a bias.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from normbench import memory, norms, rng, weight_norms
from normbench.data.shape import Shape
from normbench.errors import InputError
from normbench.models.activations import ACTIVATIONS, GAINS
from normbench.models.branch import BRANCH_SCALES, FixupBias
from normbench.models.initial_weights import initial_bias, initial_weight
from normbench.models.keys import of_norm, of_weight_norm
from normbench.models.layers import Conv2d, Dropout, Linear
from normbench.spec import RunSpec

L = TypeVar("L", Conv2d, Linear)
#: Bytes of weights above which a layer is compared with the free memory.
_MUCH = 1 << 28
#: Sites that read a layer's output, see `Builder.conv`.
Readers = str | tuple[str, ...] | None
#: Placements of plain nets with the activation before the norm.
ACTIVATION_FIRST = ("conv_act_norm", "conv_act_pool_norm")


@dataclass
class Builder:
    """Makes the layers of K stacked runs.

    Args:
        specs:      the K runs. They differ in lane fields only; the first gives all other values.
        image:      the network's input: channels, size, classes.
        norm_sites: sites at which the norm stands; None while the sites are being listed.
        dry:        all weights are 1: for listing sites and computing shapes, not for training.

    Attributes:
        sites:  every site that the model asked for so far, in the order of the forward pass.
        inputs: site → the layer whose output the site reads, with nothing nonlinear in between.
    """

    specs: tuple[RunSpec, ...]
    image: Shape
    norm_sites: frozenset[str] | None = None
    dry: bool = False
    sites: list[str] = field(default_factory=list)
    inputs: dict[str, Conv2d | Linear] = field(default_factory=dict)

    @property
    def spec(self) -> RunSpec:
        return self.specs[0]

    @property
    def lanes(self) -> int:
        return len(self.specs)

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(spec.seed for spec in self.specs)

    @property
    def activation_name(self) -> str:
        """The run's activation. Every model that a builder makes has one."""
        return self.spec.model.activation or "relu"

    def conv(
        self,
        name: str,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int = 0,
        read_by: Readers,
        scale: float = 1.0,
    ) -> Conv2d:
        """A convolution.

        Args:
            name:    names the initial weights' random numbers.
            inputs:  Cin.
            outputs: Cout.
            kernel:  side of the filters.
            stride:  in both directions.
            padding: zeros at each border.
            read_by: the site that reads the output with nothing nonlinear in between. A tuple: all sites that
                     read a sum of which the output is a part. None or (): an activation reads it first.
            scale:   factor of the initial weight.
        """
        gain = scale * GAINS[self.activation_name]
        weight, bias = self._initial_values(name, (outputs, inputs, kernel, kernel), gain)
        weight = weight.flatten(0, 1)  # (K·Cout, Cin, k, k)
        weight_norm = self._weight_norm(name, weight, head=False)
        has_bias = self._has_bias(read_by)
        conv = Conv2d(weight, has_bias, weight_norm, self.lanes, stride=stride, padding=padding)
        return self._recorded(read_by, _with_bias(conv, bias))

    def linear(self, name: str, inputs: int, outputs: int, *, read_by: Readers) -> Linear:
        """A hidden fully connected layer; arguments as for `conv`."""
        weight, bias = self._initial_values(name, (outputs, inputs), GAINS[self.activation_name])
        linear = Linear(weight, self._has_bias(read_by), self._weight_norm(name, weight, head=False))
        return self._recorded(read_by, _with_bias(linear, bias))

    def head(self, inputs: int) -> Linear:
        """The classifier: it always has a bias and no norm follows it."""
        gain = 0.0 if self.spec.model.branch == "fixup" else None
        weight, bias = self._initial_values("head", (self.image.classes, inputs), gain)
        head = Linear(weight, True, self._weight_norm("head", weight, head=True))
        head.is_head = True
        return _with_bias(head, bias)

    def norm(self, site: str, channels: int, *, activated: bool = False) -> nn.Module:
        """The run's norm, or the identity if `placement.sites` leaves this site out.

        Args:
            site:      its name.
            channels:  C of one run.
            activated: the norm replaces the activation after it, too.

        Raises:
            NormError: the norm's arguments do not fit the site; the message names it.
        """
        self.sites.append(site)
        if not self.has_norm(site):
            return nn.Identity()
        norm = self.spec.norm
        try:
            layer = norms.build(norm.name, channels, self.lanes, **self.norm_arguments(activated))
            layer.follow(self.inputs.get(site))
        except norms.NormError as error:
            raise norms.NormError(f"site {site}: {of_norm(error, norm.name)}") from None
        layer.site = site
        layer.activated = activated
        layer.in_double = self.spec.engine.precision == "tf32"
        return layer

    def norm_arguments(self, activated: bool = False) -> dict[str, Any]:
        """The arguments of the run's norm at a site, by name; see `norm`."""
        norm = self.spec.norm
        arguments = dict(norm.args)
        for knob in ("momentum", "eps"):
            if getattr(norm, knob) is not None:
                arguments[knob] = [getattr(spec.norm, knob) for spec in self.specs]
        if norm.affine is not None:
            arguments["affine"] = norm.affine
        accepted = norms.entry(norm.name).arguments
        context = {
            "batch": self.spec.batch, "total": self.spec.total, "seeds": self.seeds, "activated": activated,
        }  # fmt: skip
        return arguments | {name: value for name, value in context.items() if name in accepted}

    def norm_act(self, site: str, channels: int) -> tuple[nn.Module, ...]:
        """The norm of a site and the activation after it; one layer if the norm replaces the activation.

        Raises:
            InputError: the norm replaces a ReLU, and the run's activation is another one.
        """
        if not (self.has_norm(site) and norms.entry(self.spec.norm.name).activates):
            return self.norm(site, channels), self.activation()
        if self.spec.model.activation != "relu":
            raise InputError(
                f"norm={self.spec.norm.name} replaces the activation after it, a ReLU in its paper; "
                f"got model.activation={self.spec.model.activation}. Use model.activation=relu"
            )
        return (self.norm(site, channels, activated=True),)

    def activation(self) -> nn.Module:
        return ACTIVATIONS[self.activation_name]()

    def fixup_bias(self) -> tuple[nn.Module, ...]:
        """Fixup's scalar bias, for before a convolution, an activation or the classifier; () without
        Fixup.
        """
        return (FixupBias(self.lanes),) if self.spec.model.branch == "fixup" else ()

    def branch_scale(self) -> tuple[nn.Module, ...]:
        """The scalar at the end of a residual branch, for SkipInit and Fixup; () for plain branches."""
        scale = BRANCH_SCALES[self.spec.model.branch]
        return (scale(self.lanes),) if scale else ()

    def dropout(self, name: str) -> nn.Module:
        """Dropout of rate `model.dropout`; the layer's name enters its random numbers."""
        rate = self.spec.model.dropout
        return Dropout(rate, self.seeds, name) if rate else nn.Identity()

    def unit(self, site: str, layer: nn.Module, channels: int) -> nn.Sequential:
        """A layer of a plain net with its norm and activation, in the order of the placement."""
        if self.spec.placement.name in ACTIVATION_FIRST:
            return nn.Sequential(layer, self.activation(), self.norm(site, channels))
        return nn.Sequential(layer, *self.fixup_bias(), *self.norm_act(site, channels))

    def pooled_unit(
        self, site: str, layer: nn.Module, channels: int, pool: nn.Module
    ) -> tuple[nn.Module, ...]:
        """The unit of a layer and the pooling after it; conv_act_pool_norm has the norm after the pooling."""
        if self.spec.placement.name == "conv_act_pool_norm":
            return (nn.Sequential(layer, self.activation(), pool, self.norm(site, channels)),)
        return self.unit(site, layer, channels), pool

    def reader(self, site: str) -> str | None:
        """The `read_by` of a plain net's layer: its site, or None if the activation stands in between."""
        return None if self.spec.placement.name in ACTIVATION_FIRST else site

    def has_norm(self, site: str) -> bool:
        """Whether the run's norm stands at a site."""
        return self.norm_sites is not None and site in self.norm_sites

    def _recorded(self, read_by: Readers, layer: L) -> L:
        if isinstance(read_by, str):
            self.inputs[read_by] = layer
        return layer

    def _has_bias(self, read_by: Readers) -> bool:
        """Whether a layer has a bias. Under `auto` it has none if every reader of its output is a norm that
        removes a bias (bn, in) or adds its own (any norm with β), and none under Fixup, which adds its own.
        """
        if isinstance(self.spec.model.bias, bool):
            return self.spec.model.bias
        if self.spec.model.branch == "fixup":
            return False
        readers = (read_by,) if isinstance(read_by, str) else read_by or ()
        if not readers or not all(map(self.has_norm, readers)):
            return True
        adds_its_own = self.spec.norm.affine in (True, "bias")
        return not (adds_its_own or norms.entry(self.spec.norm.name).removes_bias(self.spec.norm.args))

    def _initial_values(self, name: str, shape: tuple[int, ...], gain: float | None) -> tuple[Tensor, Tensor]:
        """Initial weights (K, *shape) and biases (K, Cout), from each lane's seed and the layer's name.

        Args:
            name:  of the layer.
            shape: of the weight of one run.
            gain:  see `initial_weight`.
        """
        if self.dry:
            _check_room(name, math.prod((self.lanes, *shape)))
            return torch.ones(self.lanes, *shape), torch.zeros(self.lanes, shape[0])
        init = self.spec.model.init
        generators = [rng.generator(seed, f"init/{name}") for seed in self.seeds]
        weights = torch.stack([initial_weight(init, shape, gain, g) for g in generators])
        return weights, torch.stack([initial_bias(init, shape, g) for g in generators])

    def _weight_norm(self, name: str, weight: Tensor, *, head: bool) -> weight_norms.WeightNorm:
        key, eps = self.spec.weight.name, self.spec.weight.eps
        if head and not weight_norms.entry(key).on_head:
            key, eps = "none", None
        try:
            built = weight_norms.build(key, weight, self.lanes, eps)
        except norms.NormError as error:
            raise norms.NormError(f"layer {name}: {of_weight_norm(error)}") from None
        built.in_double = self.spec.engine.precision == "tf32"
        return built


def _check_room(name: str, weights: int) -> None:
    """Refuse a layer whose weights do not fit into the memory. A dry run makes them first of all.

    Raises:
        InputError: there is too little memory; the message has the numbers.
    """
    needed = 4 * weights
    if needed > _MUCH and needed > (free := memory.free_bytes()):
        raise InputError(
            f"layer {name} has {weights:,} weights, which need {memory.size(needed)} of memory; "
            f"{memory.size(free)} are free; give a smaller model"
        )


@torch.no_grad()
def _with_bias(layer: L, initial: Tensor) -> L:
    """The layer; its bias, if it has one, starts at these values: (K, Cout)."""
    if layer.bias is not None:
        layer.bias.copy_(initial.view_as(layer.bias))
    return layer
