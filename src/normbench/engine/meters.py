"""What is counted while a stack trains: on the device, without waiting for it."""

from __future__ import annotations

import torch
from torch import Tensor


class Meters:
    """Sums of loss and errors per lane since the last reading, and until when its loss was finite.

    Args:
        lanes:  K.
        images: images per step and lane.
        device: where the sums live.
    """

    def __init__(self, lanes: int, images: int, device: torch.device) -> None:
        self.images = images
        self.loss = torch.zeros(lanes, dtype=torch.float64, device=device)
        self.errors = torch.zeros(lanes, dtype=torch.float64, device=device)
        self.finite = torch.ones(lanes, dtype=torch.bool, device=device)
        self.finite_steps = torch.zeros(lanes, dtype=torch.long, device=device)
        self.steps = 0

    @torch.no_grad()
    def add(self, losses: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Sum up a step: losses (K,), logits (N, K, classes), labels (N, K). The caller counts `steps`."""
        self.loss += losses
        self.errors += (logits.argmax(2) != labels).sum(0)
        self.finite &= losses - losses == 0  # PERF: isfinite is four calls
        self.finite_steps += self.finite

    def read(self) -> tuple[list[float], list[float], list[bool]]:
        """Mean loss, share of errors and soundness per lane since the last reading, which starts a new
        one.
        """
        loss = (self.loss / self.steps).tolist()
        errors = (self.errors / (self.steps * self.images)).tolist()
        self.loss.zero_()
        self.errors.zero_()
        self.steps = 0
        return loss, errors, self.finite.tolist()

    def tensors(self) -> list[Tensor]:
        """What a step changes."""
        return [self.loss, self.errors, self.finite, self.finite_steps]
