"""What of a configuration a paper would cite: its words, and the citation keys of their sources."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from normbench.paths import get

#: Field of a configuration → pattern of its value → citation key. Norms and weight maps name their own.
_SOURCES: dict[str, dict[str, str]] = {
    "model.name": {
        r"lenet\d+": "lecun1998", "alexnet": "krizhevsky2012", "nin": "lin2014", r"vgg\d+": "simonyan2014",
        r"resnet\d+": "he2016",
    },
    "model.branch": {"fixup": "zhang2019b", "skipinit": "de2020"},
    "model.init": {
        r"he(:.*)?": "he2015", "xavier": "glorot2010", "orthogonal": "saxe2014", r"lsuv.*": "mishkin2016",
    },
    "placement.name": {"norm_act_conv|act_only_preact|after_add|act_before_add": "he2016b"},
    "data.name": {
        "mnist": "lecun1998", "fashion_mnist": "xiao2017", r"cifar\d+": "krizhevsky2009",
    },
    "optim.name": {"adam": "kingma2015", "adamw": "loshchilov2019", "rmsprop": "tieleman2012"},
    "schedule.name": {"cosine": "loshchilov2017"},
}  # fmt: skip


def cited(config: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Words of a run, such as norm=gn, and the citation key of each; methods first.

    A norm or a weight map without a source is left out.
    """
    from normbench import norms, weight_norms

    norm, weight = str(get(config, "norm.name")), str(get(config, "weight.name"))
    if norm in norms.catalogue() and (key := norms.entry(norm).reference):
        yield f"norm={norm}", key
    if weight != "none" and weight in weight_norms.catalogue():
        yield f"weight={weight}", weight_norms.entry(weight).reference
    for field, patterns in _SOURCES.items():
        value = get(config, field)
        for pattern, key in patterns.items():
            if isinstance(value, str) and re.fullmatch(pattern, value):
                yield f"{field.removesuffix('.name')}={value}", key
    if get(config, "optim.ema") is not None:
        yield f"optim.ema={get(config, 'optim.ema')}", "tarvainen2017"


def all_methods() -> Iterator[tuple[str, str]]:
    """Every norm and weight map of the catalogue with its citation key."""
    from normbench import norms, weight_norms

    yield from ((f"norm={key}", entry.reference) for key, entry in norms.catalogue().items())
    yield from ((f"weight={key}", kind.reference) for key, kind in weight_norms.catalogue().items())
