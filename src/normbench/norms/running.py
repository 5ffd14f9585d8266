"""The weight of the new batch in running statistics, for lanes that may each have another momentum."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from normbench.momentum import Momentum


def rates(momenta: Sequence[Momentum]) -> Tensor:
    """m of every lane: (K,) in fp64."""
    return torch.tensor([momentum.rate for momentum in momenta], dtype=torch.float64)


def weight_of_new(momenta: Sequence[Momentum], rates: Tensor, count: Tensor) -> Tensor:
    """w_t of every lane in s ← s + w_t (new − s).

        ema          w_t = m
        cumulative   w_t = 1 / t
        debiased     w_t = m / (1 − (1 − m)^t)

    Args:
        momenta: one per lane.
        rates:   `rates(momenta)`, on the device of the statistics.
        count:   t, batches seen with the new one: (K,) or a scalar.

    Returns:
        (K,) in fp64.
    """
    kinds = [momentum.kind for momentum in momenta]
    if set(kinds) == {"ema"}:
        return rates
    t = count.double().expand(len(kinds))
    forms = {"ema": rates, "cumulative": 1 / t, "debiased": rates / (1 - (1 - rates) ** t)}
    if len(set(kinds)) == 1:
        return forms[kinds[0]]
    return torch.stack([forms[kind][lane] for lane, kind in enumerate(kinds)])
