"""Meters: losses and errors of a stack in training, summed on the device without waiting for it."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


class Meters:
    """Sums of loss and errors per lane since the last reading, and the steps in which its loss was finite.

    Args:
        lanes:  K.
        images: images per step and lane.
        device: of the sums.
    """

    def __init__(self, lanes: int, images: int, device: torch.device) -> None:
        self.images = images
        self.loss = torch.zeros(lanes, dtype=torch.float64, device=device)
        self.errors = torch.zeros(lanes, dtype=torch.float64, device=device)
        self.finite = torch.ones(lanes, dtype=torch.bool, device=device)
        self.finite_steps = torch.zeros(lanes, dtype=torch.long, device=device)
        self.steps = 0

    def add(self, losses: Tensor, errors: Tensor) -> None:
        """Add a step: mean losses and numbers of errors, both (K,).

        The caller counts `steps` and turns gradients off.
        """
        self.loss += losses
        self.errors += errors
        self.finite &= losses - losses == 0  # PERF: isfinite takes four calls
        self.finite_steps += self.finite

    def read(self) -> tuple[list[float], list[float], list[bool]]:
        """Mean loss and share of errors per lane since the last reading, and whether all losses of the lane
        were finite so far.
        """
        loss = (self.loss / self.steps).tolist()
        errors = (self.errors / (self.steps * self.images)).tolist()
        self.loss.zero_()
        self.errors.zero_()
        self.steps = 0
        return loss, errors, self.finite.tolist()

    def first_nonfinite(self) -> list[int | None]:
        """The first step of each lane whose loss was not finite; None if there is none."""
        counted = zip(self.finite.tolist(), self.finite_steps.tolist(), strict=True)
        return [None if finite else step for finite, step in counted]

    def tensors(self) -> list[Tensor]:
        """Every tensor that a step changes."""
        return [self.loss, self.errors, self.finite, self.finite_steps]


def count_errors(logits: Tensor, labels: Tensor) -> Tensor:
    """Wrong predictions of every lane, (K,): logits (N, K, classes), labels (N, K)."""
    return (logits.argmax(2) != labels).sum(0)


@torch.no_grad()
def lanes_are_finite(tensors: Iterable[Tensor], lanes: int) -> list[bool]:
    """Whether all numbers of each lane are finite, in lane-major tensors."""
    finite = [t.unflatten(0, (lanes, -1)).flatten(1).isfinite().all(1) for t in tensors]
    result: list[bool] = torch.stack(finite).all(0).tolist()
    return result
