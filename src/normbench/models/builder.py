"""What architectures are written against: it makes stacked layers and decides what stands at each site.

An architecture names its layers and sites and wires them; which norm stands where, in which order, and
whether a layer keeps its bias is decided here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor, nn

from normbench import norms, rng, weight_norms
from normbench.data.shape import Shape
from normbench.errors import InputError
from normbench.models.branch import ENDS, FixupBias
from normbench.models.layers import Conv2d, Dropout, Linear
from normbench.spec import RunSpec

L = TypeVar("L", Conv2d, Linear)

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid, "tanh": nn.Tanh}
#: Gain of the initial weights before each activation: He et al. 2015 for ReLU, Glorot & Bengio 2010 for the
#: others. The classifier's is that of torch's linear layers: a net starts out undecided between classes.
GAINS = {"relu": 2.0**0.5, "sigmoid": 1.0, "tanh": 5.0 / 3.0, "head": 3.0**-0.5}


@dataclass
class Builder:
    """Makes the layers of K stacked runs.

    Args:
        specs:  the K runs; they differ in lane fields only, the first speaks for all others.
        image:  what the network sees: channels, size, classes.
        chosen: sites that carry the norm; None while the sites are being counted.
        dry:    weights are ones that nobody will train: for counting sites and looking at shapes.
    """

    specs: tuple[RunSpec, ...]
    image: Shape
    chosen: frozenset[str] | None = None
    dry: bool = False
    sites: list[str] = field(default_factory=list)
    #: By site, the layer that feeds the norm there with nothing nonlinear in between.
    feeders: dict[str, Conv2d | Linear] = field(default_factory=dict)

    @property
    def spec(self) -> RunSpec:
        return self.specs[0]

    @property
    def lanes(self) -> int:
        return len(self.specs)

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(spec.seed for spec in self.specs)

    def conv(
        self,
        name: str,
        inputs: int,
        outputs: int,
        kernel: int,
        *,
        stride: int = 1,
        padding: int = 0,
        before: str | None,
        scale: float = 1.0,
    ) -> Conv2d:
        """A convolution; `before` is the site that reads its output with nothing nonlinear in between, if
        any, and `scale` multiplies its initial weight.
        """
        gain = scale * GAINS[self.spec.model.activation]
        weight = self._initial(name, (outputs, inputs, kernel, kernel), gain)
        weight = weight.flatten(0, 1)  # (K·Cout, Cin, k, k)
        mapped = self._weight_norm(name, weight, head=False)
        conv = Conv2d(weight, self._keeps_bias(before), mapped, self.lanes, stride=stride, padding=padding)
        return self._feeding(before, conv)

    def linear(self, name: str, inputs: int, outputs: int, *, before: str | None) -> Linear:
        """A hidden fully connected layer; `before` as for `conv`."""
        weight = self._initial(name, (outputs, inputs), GAINS[self.spec.model.activation])
        linear = Linear(weight, self._keeps_bias(before), self._weight_norm(name, weight, head=False))
        return self._feeding(before, linear)

    def head(self, inputs: int) -> Linear:
        """The classifier: always with a bias, never followed by a norm."""
        gain = 0.0 if self.spec.model.branch == "fixup" else GAINS["head"]
        weight = self._initial("head", (self.image.classes, inputs), gain)
        return Linear(weight, True, self._weight_norm("head", weight, head=True))

    def norm(self, site: str, channels: int, *, activated: bool = False) -> nn.Module:
        """What stands at a site: the run's norm, or nothing where the placement leaves it out.

        Args:
            activated: an activation would follow, and the norm stands for it, too.
        """
        self.sites.append(site)
        if not self.carries(site):
            return nn.Identity()
        kind = self.spec.norm
        given = dict(kind.args)
        for knob in ("momentum", "eps"):
            if getattr(kind, knob) is not None:
                given[knob] = [getattr(spec.norm, knob) for spec in self.specs]
        if kind.affine is not None:
            given["affine"] = kind.affine
        known = norms.entry(kind.name).arguments
        circumstances = {
            "batch": self.spec.batch, "total": self.spec.total, "seeds": self.seeds, "activated": activated,
        }  # fmt: skip
        given |= {name: value for name, value in circumstances.items() if name in known}
        try:
            layer = norms.build(kind.name, channels, self.lanes, **given)
            layer.follow(self.feeders.get(site))
        except norms.NormError as error:
            raise norms.NormError(f"site {site}: {error}") from None
        layer.site = site
        return layer

    def norm_act(self, site: str, channels: int) -> tuple[nn.Module, ...]:
        """What stands at a site, and the activation after it unless the norm stands for that, too."""
        if not (self.carries(site) and norms.entry(self.spec.norm.name).activates):
            return self.norm(site, channels), self.activation()
        if self.spec.model.activation != "relu":
            raise InputError(
                f"norm={self.spec.norm.name} stands for the activation after it, a ReLU in its paper; "
                f"got model.activation={self.spec.model.activation}. Use model.activation=relu"
            )
        return (self.norm(site, channels, activated=True),)

    def activation(self) -> nn.Module:
        return ACTIVATIONS[self.spec.model.activation]()

    def shift(self) -> tuple[nn.Module, ...]:
        """Fixup's scalar bias before a convolution, an activation or the classifier; nothing without
        Fixup.
        """
        return (FixupBias(self.lanes),) if self.spec.model.branch == "fixup" else ()

    def branch_end(self) -> tuple[nn.Module, ...]:
        """What ends a residual branch: the scalar of SkipInit or Fixup, or nothing."""
        end = ENDS[self.spec.model.branch]
        return (end(self.lanes),) if end else ()

    def dropout(self, name: str) -> nn.Module:
        rate = self.spec.model.dropout
        return Dropout(rate, self.seeds, name) if rate else nn.Identity()

    def unit(self, site: str, layer: nn.Module, channels: int) -> nn.Sequential:
        """A layer of a plain net with its norm and activation, in the order of the placement."""
        if self.spec.placement.name == "conv_act_norm":
            return nn.Sequential(layer, self.activation(), self.norm(site, channels))
        return nn.Sequential(layer, *self.shift(), *self.norm_act(site, channels))

    def before(self, site: str) -> str | None:
        """The site that reads a plain net's layer directly: none where the activation stands in between."""
        return None if self.spec.placement.name == "conv_act_norm" else site

    def carries(self, site: str) -> bool:
        """Whether the placement puts the run's norm at a site."""
        return self.chosen is not None and site in self.chosen

    def _feeding(self, site: str | None, layer: L) -> L:
        """Remember which layer feeds the norm at a site."""
        if site is not None:
            self.feeders[site] = layer
        return layer

    def _keeps_bias(self, before: str | None) -> bool:
        """A bias is kept unless the next norm removes it (bn, in) or brings its own (any with β), as Fixup
        does.
        """
        if self.spec.model.bias != "auto":
            return self.spec.model.bias
        if self.spec.model.branch == "fixup":
            return False
        if before is None or not self.carries(before):
            return True
        brings_own = self.spec.norm.affine in (True, "bias")
        return not (brings_own or norms.entry(self.spec.norm.name).absorbs_bias)

    def _initial(self, name: str, shape: tuple[int, ...], gain: float) -> Tensor:
        """Initial weights by seed and layer name: (K, *shape). Normal of variance gain² / fan_in, or
        orthonormal rows (columns, where they are fewer) for LSUV, which finds the gains itself.
        """
        if self.dry:
            return torch.ones(self.lanes, *shape)
        generators = [rng.generator(seed, f"init/{name}") for seed in self.seeds]
        if self.spec.model.init == "lsuv":
            return torch.stack([nn.init.orthogonal_(torch.empty(shape), generator=g) for g in generators])
        deviation: float = gain / math.prod(shape[1:]) ** 0.5
        return torch.stack([torch.randn(shape, generator=g) for g in generators]) * deviation

    def _weight_norm(self, name: str, weight: Tensor, *, head: bool) -> weight_norms.WeightNorm:
        kind = self.spec.weight
        spared = head and not weight_norms.entry(kind.name).on_head
        try:
            return (
                weight_norms.build("none", weight, self.lanes)
                if spared
                else weight_norms.build(kind.name, weight, self.lanes, kind.eps)
            )
        except norms.NormError as error:
            raise norms.NormError(f"layer {name}: {error}") from None
