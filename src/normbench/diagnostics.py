"""Names of the diagnostics: what each reports, what it follows from, and how a request for one is written.

    diagnostics=[running_error, small_gamma@0.1, smoothness:50]      name@argument:steps between two readings

The probes themselves are in `normbench.engine.probes`, one file per name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import gcd
from typing import Literal

from normbench import parts
from normbench.errors import InputError, unknown
from normbench.numbers import whole

#: What a diagnostic follows from: the final state of a run, its curve, or steps of the training itself.
Source = Literal["state", "curve", "training"]


@dataclass(frozen=True)
class Entry:
    """A diagnostic in the catalogue.

    Attributes:
        quantities:   its numbers; quantity q of a request with label l is the metric `l/q`.
        follows_from: what it can be computed from.
        argument:     what may stand behind @, in words; empty if nothing may.
        accepts:      whether a text is such an argument.
    """

    quantities: tuple[str, ...]
    follows_from: Source
    argument: str = ""
    accepts: Callable[[str], bool] = lambda text: False


def _positive(text: str) -> bool:
    try:
        return 0 < float(text) < float("inf")
    except ValueError:
        return False


def _two_or_more(text: str) -> bool:
    return (whole(text) or 0) >= 2


def _one_or_more(text: str) -> bool:
    return (whole(text) or 0) >= 1


def _site(text: str) -> bool:
    return bool(re.fullmatch(r"[\w.]+", text))


CATALOGUE: Mapping[str, Entry] = {
    "running_error": Entry(("mean_mean", "mean_max", "var_mean", "var_max"), "state"),
    "inconsistency": Entry(("error", "loss"), "state"),
    "fluctuation": Entry(("test_error", "valid_error"), "curve", "a number of evaluations ≥ 2", _two_or_more),
    "centering": Entry(("mean_mean", "mean_max", "deviation_mean", "deviation_max"), "state"),
    "dead_channels": Entry(("mean", "max"), "state"),
    "kurtosis": Entry(("mean", "max"), "state"),
    "percentiles": Entry(
        ("p1", "p15", "p20", "p50", "p80", "p85", "p99"), "state", "a site, or site.channel", _site
    ),
    "affine_histogram": Entry(("gamma_mean", "gamma_sd", "beta_mean", "beta_sd"), "state"),
    "small_gamma": Entry(("share",), "state", "a threshold > 0", _positive),
    "neural_efficiency": Entry(("mean", "aiq"), "state", "β > 0", _positive),
    "mixing_weights": Entry(
        ("mean_in", "mean_ln", "mean_bn", "var_in", "var_ln", "var_bn", "gate_bn"), "state"
    ),
    "weight_norm": Entry(("total", "mean"), "state"),
    "effective_lr": Entry(("mean",), "state"),
    "distance": Entry(("total", "relative"), "state"),
    "batch_noise": Entry(("sd", "relative"), "state"),
    "layer_jacobian": Entry(("largest", "mean_square"), "state", "a layer", _site),
    "gradient_norm": Entry(("norm", "variance"), "training"),
    "smoothness": Entry(("loss_range", "gradient_change", "effective_smoothness"), "training"),
    "covariate_shift": Entry(("shift", "cosine"), "training"),
    "top_eigenvalue": Entry(("eigenvalue",), "training", "a number of products ≥ 1", _one_or_more),
}


@dataclass(frozen=True)
class Diagnostic:
    """A request for a diagnostic.

    Attributes:
        name:     a key of `CATALOGUE`, or of a plugin's.
        argument: the text behind @; empty for the default.
        every:    steps between two readings; None for the default cadence.
    """

    name: str
    argument: str = ""
    every: int | None = None

    @property
    def entry(self) -> Entry:
        return _entry(self.name)

    @property
    def label(self) -> str:
        """What its metrics begin with: the name, with its argument if one was given."""
        return f"{self.name}@{self.argument}" if self.argument else self.name

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of its metrics."""
        return tuple(f"{self.label}/{quantity}" for quantity in self.entry.quantities)

    def __str__(self) -> str:
        return self.label if self.every is None else f"{self.label}:{self.every}"


def _entry(name: str) -> Entry:
    """What is known of a diagnostic.

    Raises:
        InputError: there is none of that name.
    """
    if (part := parts.find("diagnostic", name)) is not None:
        own: Entry = part.facts["entry"]
        return own
    if name not in CATALOGUE:
        raise unknown("diagnostic", name, [*CATALOGUE, *parts.names("diagnostic")])
    return CATALOGUE[name]


def parse(text: str) -> Diagnostic:
    """Read a request.

    >>> parse("smoothness:50").every, str(parse(" running_error "))
    (50, 'running_error')

    Raises:
        InputError: an unknown name, with the nearest ones; an argument or a cadence that it cannot have.
    """
    label, _, every = text.strip().partition(":")
    name, at, argument = label.partition("@")
    entry = _entry(name)
    if ":" in text and not whole(every):
        raise InputError(
            f"diagnostics: the cadence of {name} must be a whole number of steps ≥ 1; got '{every}', "
            f"use for example {name}:100"
        )
    if at and not entry.accepts(argument):
        wanted = f"takes {entry.argument} behind @" if entry.argument else "takes no argument"
        raise InputError(f"diagnostics: {name} {wanted}; got '{argument}'")
    return Diagnostic(name, argument, int(every) if every else None)


def parse_all(texts: Sequence[str]) -> tuple[Diagnostic, ...]:
    """Read several requests; each label once, with a cadence that has every step that is asked for.

    >>> [str(each) for each in parse_all(["smoothness:20", "running_error", "smoothness:50"])]
    ['smoothness:10', 'running_error']

    Raises:
        InputError: as `parse`.
    """
    found: dict[str, Diagnostic] = {}
    for asked in map(parse, texts):
        known = found.get(asked.label, asked)
        cadences = [each for each in (known.every, asked.every) if each is not None]
        found[asked.label] = replace(asked, every=gcd(*cadences) or None)
    return tuple(found.values())
