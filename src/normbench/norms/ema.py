"""How running statistics move: the weight of the new batch, by lane and step."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, lru_cache

import torch
from torch import Tensor

from normbench.errors import NormError
from normbench.momentum import Momentum


def blend(running: Tensor, new: Tensor, weight: Tensor) -> None:
    """Move a statistic: s ← s + w (new − s). No gradient goes through it.

    Args:
        running: lane-major, in any shape; of M banks (M, K, values).
        new:     of the batch, as many values for each of the K lanes.
        weight:  w by lane, (K,); by bank and lane, (M, K).
    """
    new = new.detach() if new.requires_grad else new
    new = new if new.dtype == running.dtype else new.to(running.dtype)
    weight = weight if weight.dtype == running.dtype else weight.to(running.dtype)
    if weight.numel() == 1 and new.shape == running.shape:
        running.lerp_(new, weight)  # PERF: views take longer than the work
        return
    running.view(*weight.shape, -1).lerp_(new.view(weight.shape[-1], -1), weight.unsqueeze(-1))


def rates(momenta: Sequence[Momentum], progress: float = 0.0) -> Tensor:
    """m of every lane when a share of the run is done: (K,) in fp64."""
    return torch.tensor([momentum.at(progress) for momentum in momenta], dtype=torch.float64)


def update_rates(rate: Tensor, momenta: Sequence[Momentum], progress: float) -> None:
    """Bring `rates(momenta)` up to date in place, where any of them changes over the run."""
    if any(momentum.scheduled for momentum in momenta):
        rate.copy_(rates(momenta, progress), non_blocking=True)


def weight_of_new(
    momenta: Sequence[Momentum], rates: Tensor, count: Tensor, knows_progress: bool = False
) -> Tensor:
    """w_t of every lane in s ← s + w_t (new − s).

        ema, schedules   w_t = m
        cumulative       w_t = 1 / t
        debiased         w_t = m / (1 − (1 − m)^t)

    Args:
        momenta: one per lane.
        rates:   m now, on the device of the statistics: `rates(momenta)`, kept by `update_rates`.
        count:   t, batches seen with the new one: (K,) or a scalar.
        knows_progress:  whether somebody keeps m up to date.

    Returns:
        (K,) in fp64.

    Raises:
        NormError: a schedule, and nobody told how far the run is.
    """
    if not knows_progress and (schedules := [str(m) for m in momenta if m.scheduled]):
        raise NormError(
            f"norm.momentum={schedules[0]} changes over the run, but nobody told the layer how far it is; "
            "call begin_step(step, steps) before every training step, or use a constant momentum"
        )
    kinds = tuple("ema" if momentum.scheduled else momentum.kind for momentum in momenta)
    if kinds.count("ema") == len(kinds):
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
    return weight_of_new(momenta, rate, count, knows_progress=True)


@cache  # for good: a captured CUDA graph reads them
def _are(kind: str, kinds: tuple[str, ...], device: torch.device) -> Tensor:
    """Which of the momenta are of a kind: (K,)."""
    return torch.tensor([each == kind for each in kinds], device=device)


def over_chunks(statistic: Tensor) -> Tensor:
    """Mean over the chunks of a step, (S, …) → (…); a vector is of a single chunk and stays as it is. PERF:
    one chunk is its own mean, without a call.
    """
    if statistic.dim() == 1:
        return statistic
    return statistic[0] if len(statistic) == 1 else statistic.mean(0)
