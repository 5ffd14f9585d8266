"""Ordinary networks, without lanes: those of torchvision, timm and plugins, with the run's norm inside.

Their norm layers are replaced by the run's norm (`norms.convert`). A network without norm layers gets one
after every convolution (`norms.insert`). These places are its sites. A site that `placement.sites` leaves
out gets no norm. Momentum, ε and arguments of the norm are those of the run, whatever the network was built
with. The order of layers, biases, dropout and initial weights are the network's own.

Runs of such a network train one per stack. Initial weights follow from the run's seed, and random numbers of
a step (dropout) from seed and step, so a resumed run has the bits of one that was never stopped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from normbench import norms, parts, rng
from normbench.data.shape import Shape
from normbench.errors import InputError, reason
from normbench.models import library
from normbench.models.keys import of_norm
from normbench.models.sites import selected
from normbench.norms.surgery.recognise import Found, survey
from normbench.spec import RunSpec

#: The order of norm and activation is the network's own; only the default of the configuration fits it.
PLACEMENTS = ("conv_norm_act",)


class OrdinaryBody(nn.Module):
    """An ordinary network as the body of a stack of one.

    Shape:
        x: (N, C, H, W) → logits: (N, classes)
    """

    def __init__(self, network: nn.Module, spec: RunSpec, classes: int) -> None:
        super().__init__()
        self.network, self.seed, self.classes, self.model = network, spec.seed, classes, spec.model.name

    def begin_step(self, step: int, steps: int) -> None:
        """Seed torch's generators for the random numbers of a step."""
        torch.manual_seed(rng.generator(self.seed, f"step/{step}").initial_seed())

    def forward(self, x: Tensor) -> Tensor:
        y = self.network(x)
        if not isinstance(y, Tensor) or y.shape != (x.shape[0], self.classes):
            got = tuple(y.shape) if isinstance(y, Tensor) else type(y).__name__
            raise InputError(
                f"model={self.model} must return logits of shape (N, {self.classes}); got {got} for N = "
                f"{x.shape[0]}"
            )
        return y


def body(specs: Sequence[RunSpec], image: Shape) -> tuple[OrdinaryBody, int, list[str]]:
    """The network of a stack of one, its number of lanes, and its sites.

    Raises:
        InputError: there are several lanes, the network cannot be built, it has no place for norms, or the
            norm does not fit.
    """
    if len(specs) > 1:
        raise InputError(f"model={specs[0].model.name} has no lanes; its runs train one per stack")
    [spec] = specs
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(rng.generator(spec.seed, "init").initial_seed())
        network = _made(spec.model.name, image)
    sites = _normalize(network, spec)
    return OrdinaryBody(network, spec, image.classes), 1, sites


def check(spec: RunSpec) -> None:
    """Refuse settings that an ordinary network does not have.

    Raises:
        InputError: names the first one.
    """
    model = spec.model
    refused = {
        f"placement={spec.placement.name}": spec.placement.name not in PLACEMENTS,
        f"weight={spec.weight.name}": spec.weight.name != "none",
        f"model.branch={model.branch}": model.branch != "plain",
        f"model.init={model.init}": model.init != "he",
        f"optim.train={spec.optim.train}": spec.optim.train == "norm+head",
    }
    usual = {"placement": "conv_norm_act", "weight": "none", "model.branch": "plain", "model.init": "he"}
    for setting, wrong in refused.items():
        if wrong:
            key = setting.partition("=")[0]
            raise InputError(
                f"model {model.name} is an ordinary module: its layers and initial weights are its own, so "
                f"{setting} is not possible; use {key}={usual.get(key, 'all')}"
            )


def needed_size(name: str) -> int | None:
    """The image side that a plugin's network declares; None if it takes any, or for a library's."""
    part = parts.find("model", name)
    size: int | None = None if part is None else part.facts["size"]
    return size


def fitting_size(name: str, image: Shape) -> int:
    """The image side of a run of the network, for data of another side."""
    return image.size if parts.library_of(name) is None else library.fitting_size(name, image)


def ordinary_roles(module: nn.Module) -> dict[str, str]:
    """Parameter name → role, for modules that declare none. Tensors of two axes or more are weights."""
    return {
        name: "weight" if p.dim() > 1 else "bias" if "bias" in name else "scale"
        for name, p in module.named_parameters(recurse=False)
    }


def _made(name: str, image: Shape) -> nn.Module:
    part = parts.find("model", name)
    if part is None:
        return library.make(name, image)
    try:
        network = part.made(image)
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"model={name} cannot be built: {reason(error)}") from None
    if not isinstance(network, nn.Module):
        raise InputError(f"model={name} must be built as a torch.nn.Module; got {type(network).__name__}")
    return network


def _normalize(network: nn.Module, spec: RunSpec) -> list[str]:
    """Put the run's norm at its sites, in place; return all sites."""
    found = list(survey(network))
    layers = [path for path, _, known in found if isinstance(known, Found)]
    if found:
        if not layers:
            path, layer, why = found[0]
            raise InputError(
                f"model={spec.model.name} has no norm layer that can be replaced: {path} "
                f"({type(layer).__name__}): {why}"
            )
        chosen = selected(spec.placement.sites, layers)
        _convert(network, spec, [path for path in layers if path in chosen])
        if rest := [path for path in layers if path not in chosen]:
            norms.convert(network, "none", sites=rest)
        return layers
    places = [path for path, module in network.named_modules() if isinstance(module, _ConvNd)]
    if not places:
        raise InputError(
            f"model={spec.model.name} has no place for norms: it has neither a norm layer nor a convolution"
        )
    chosen = selected(spec.placement.sites, places)
    _insert(network, spec, [path for path in places if path in chosen])
    return places


def _convert(network: nn.Module, spec: RunSpec, sites: list[str]) -> None:
    with _keys_of(spec):
        norms.convert(network, spec.norm.name, sites=sites, **_arguments(spec))


def _insert(network: nn.Module, spec: RunSpec, sites: list[str]) -> None:
    with _keys_of(spec):
        norms.insert(network, norms.layer(spec.norm.name, **_arguments(spec)), after=sites)


def _arguments(spec: RunSpec) -> dict[str, Any]:
    """The arguments of the run's norm, those that the run itself gives included."""
    norm = spec.norm
    given: dict[str, Any] = dict(norm.args)
    for knob in ("momentum", "eps"):
        if (value := getattr(norm, knob)) is not None:
            given[knob] = [value]
    if norm.affine is not None:
        given["affine"] = norm.affine
    context = {"batch": spec.batch, "total": spec.total, "seeds": (spec.seed,)}
    accepted = norms.entry(norm.name).arguments
    return given | {name: value for name, value in context.items() if name in accepted}


@contextmanager
def _keys_of(spec: RunSpec) -> Iterator[None]:
    """Let errors of the norm name the model, and the keys of the configuration."""
    try:
        yield
    except InputError as error:
        raise type(error)(f"model={spec.model.name}: {of_norm(error, spec.norm.name)}") from None
