"""How running statistics move: the weight of the new batch, by lane and step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache, lru_cache

import torch
from torch import Tensor, nn

from normbench.errors import NormError
from normbench.momentum import Momentum


def blend(holder: nn.Module, weight: Tensor, new: Mapping[str, Tensor]) -> None:
    """Move statistics that a layer or its banks hold: s ← s + w (new − s), w: (M, K), 1 = M for a layer."""
    weight = weight.unsqueeze(2)
    for name, statistic in new.items():
        running = getattr(holder, name)
        mine = statistic if statistic.dtype == running.dtype else statistic.to(running.dtype)
        weight = weight if weight.dtype == running.dtype else weight.to(running.dtype)
        running.view(*weight.shape[:2], -1).lerp_(mine.view(1, weight.shape[1], -1), weight)


def rates(momenta: Sequence[Momentum], progress: float = 0.0) -> Tensor:
    """m of every lane when a share of the run is done: (K,) in fp64."""
    return torch.tensor([momentum.at(progress) for momentum in momenta], dtype=torch.float64)


def follow_schedules(rate: Tensor, momenta: Sequence[Momentum], progress: float) -> None:
    """Bring `rates(momenta)` up to date in place, where any of them changes over the run."""
    if any(momentum.scheduled for momentum in momenta):
        rate.copy_(rates(momenta, progress), non_blocking=True)


def weight_of_new(momenta: Sequence[Momentum], rates: Tensor, count: Tensor, driven: bool = False) -> Tensor:
    """w_t of every lane in s ← s + w_t (new − s).

        ema, schedules   w_t = m
        cumulative       w_t = 1 / t
        debiased         w_t = m / (1 − (1 − m)^t)

    Args:
        momenta: one per lane.
        rates:   m now, on the device of the statistics: `rates(momenta)`, kept by `follow_schedules`.
        count:   t, batches seen with the new one: (K,) or a scalar.
        driven:  whether somebody keeps m up to date.

    Returns:
        (K,) in fp64.

    Raises:
        NormError: a schedule, and nobody told how far the run is.
    """
    if not driven and (schedules := [str(m) for m in momenta if m.scheduled]):
        raise NormError(
            f"norm.momentum={schedules[0]} changes over the run, but nobody told the layer how far it is; "
            "call begin_step(step, steps) before every training step, or use a constant momentum"
        )
    kinds = tuple("ema" if momentum.scheduled else momentum.kind for momentum in momenta)
    if set(kinds) == {"ema"}:
        return rates
    t = count.double().expand(len(kinds))
    weight = rates
    if "cumulative" in kinds:
        weight = torch.where(_are("cumulative", kinds, rates.device), 1 / t, weight)
    if "debiased" in kinds:
        debiased = rates / -torch.expm1(t * torch.log1p(-rates))  # keeps its digits for small m
        weight = torch.where(_are("debiased", kinds, rates.device), debiased, weight)
    return weight


@lru_cache(maxsize=8)
def weights_at(
    momenta: tuple[Momentum, ...], step: int, steps: int, dtype: torch.dtype, device: torch.device
) -> Tensor:
    """`weight_of_new` for the batch of a step, the first being 0; PERF: once for all layers of a network."""
    count = torch.tensor(step + 1, device=device)
    rate = rates(momenta, step / steps).to(device, dtype)
    return weight_of_new(momenta, rate, count, driven=True)


@cache  # for good: a captured CUDA graph reads them
def _are(kind: str, kinds: tuple[str, ...], device: torch.device) -> Tensor:
    """Which of the momenta are of a kind: (K,)."""
    return torch.tensor([each == kind for each in kinds], device=device)


def over_chunks(statistic: Tensor) -> Tensor:
    """Mean over the chunks of a step: (S, …) → (…). PERF: one chunk is its own mean, without a call."""
    return statistic[0] if len(statistic) == 1 else statistic.mean(0)
