"""The cells that a claim names, with their values by seed."""

from __future__ import annotations

import math
from collections.abc import Sequence

from normbench.labels import label
from normbench.papers.claim_kinds import ClaimBase, InteriorMinimum, Largest, Rises
from normbench.papers.findings import NoVerdict
from normbench.papers.measurements import Measurements, Values
from normbench.papers.places import Place, Texts, matching
from normbench.visible import visible

#: The cells of a table that are shown, in the order of the file.
Places = Sequence[Texts]


def cell(claim: ClaimBase, runs: Measurements, places: Places, place: Place) -> tuple[str, Values]:
    """The name and the values of the one cell at a place."""
    [texts] = matching(places, place)
    own = runs.metrics_of(claim, place)
    named = "" if own == runs.metrics_of(claim) else own[0]
    return runs.name(texts, named), runs.values(claim, texts, place)


def cells_of(claim: ClaimBase, runs: Measurements, places: Places, where: Place) -> list[tuple[str, Values]]:
    """The names and values of the cells of a set, in the order of the file."""
    return [(runs.name(texts), runs.values(claim, texts, where)) for texts in matching(places, where)]


def ordered(claim: Rises | InteriorMinimum, runs: Measurements, places: Places) -> list[tuple[str, Values]]:
    """The names and values of the cells along a key, in the order of the claim, else of the file."""
    found = list(matching(places, claim.where))
    if claim.values is not None:
        order = [visible(label(value)) for value in claim.values]
        found = [texts for value in order for texts in found if texts[claim.along] == value]
    if len(found) < 3:
        raise NoVerdict(f"a trend needs at least 3 cells along {claim.along}; {len(found)} are shown")
    return [(runs.name(texts), runs.values(claim, texts, claim.where)) for texts in found]


def largest(
    claim: ClaimBase, wanted: Largest, runs: Measurements, places: Places, place: Place
) -> dict[int, float]:
    """Per seed, the largest value of a key at which the runs reach the error; if none, the smallest tried."""
    [metric] = runs.metrics_of(claim, place)
    found: dict[int, float] = {}
    for texts in sorted(matching(places, place), key=lambda texts: float(texts[wanted.along])):
        value = float(texts[wanted.along])
        for seed, reached in runs.reaches(texts, metric, wanted.below).items():
            found[seed] = value if reached else found.get(seed, value)
    return found


def logs(values: Values, name: str) -> dict[int, float]:
    if any(value <= 0 for value in values.values()):
        raise NoVerdict(f"{name} has values that are not positive, so that there is no ratio")
    return {seed: math.log(value) for seed, value in values.items()}


def in_words(place: Place) -> str:
    return " ".join(f"{key}={label(value)}" for key, value in place.items())
