"""Which tensors of a norm layer another layer in its place takes over."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from normbench import norms

#: Names of parameters in reports.
SYMBOLS = {"weight": "γ", "bias": "β"}


def kept_names(
    old: str, new: str, common: Sequence[str], parameters: Collection[str], state: Collection[str]
) -> list[str]:
    """The names of the tensors that have the same meaning in both layers.

    One method: all that both layers have. Two methods: γ and β. If both are of the family of batch
    statistics, also the running statistics, if the old layer has every one that the new layer needs.

    Args:
        old, new:   keys of the methods.
        common:     names of the tensors that both layers have in one shape.
        parameters: names of the new layer's parameters.
        state:      names of all its tensors.
    """
    fitting = set(SYMBOLS)
    statistics = {*state} - {*parameters}
    if old == new:
        fitting |= {*common}
    elif norms.entry(old).family == norms.entry(new).family == "batch" and statistics <= {*common}:
        fitting |= statistics  # all or none: half a state is no state
    return [name for name in common if name in fitting]
