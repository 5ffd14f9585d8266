"""Loss scaling for fp16, per lane: an overflow in one lane does not affect the others."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

#: As torch.amp.GradScaler: the initial scale, and the steps without overflow after which it doubles.
INITIAL_SCALE, GROWTH_INTERVAL = 2.0**16, 2000


class LossScale:
    """A factor of the loss per lane. An overflow of the lane's gradients halves it; GROWTH_INTERVAL steps
    without overflow double it.

    Args:
        lanes:  K.
        device: where the factors live.

    Reference: micikevicius2018 — Mixed Precision Training, ICLR 2018, §3.2, with the rule of
               torch.amp.GradScaler for the factor.
    """

    def __init__(self, lanes: int, device: torch.device) -> None:
        self.factor = torch.full((lanes,), INITIAL_SCALE, device=device)
        self.steps_since_change = torch.zeros(lanes, device=device)

    def __call__(self, losses: Tensor) -> Tensor:
        """The scaled losses: (K,) → (K,)."""
        return losses * self.factor

    @torch.no_grad()
    def unscale(self, gradients: Sequence[Tensor]) -> Tensor:
        """Divide the gradients of every lane by its factor, then set the factors of the next step.

        Args:
            gradients: lane-major; changed in place.

        Returns:
            (K,) bool: the lane's gradients are all finite. Those of the other lanes must not be used.
        """
        lanes = len(self.factor)
        finite = torch.ones(lanes, dtype=torch.bool, device=self.factor.device)
        for gradient in gradients:
            own = gradient.unflatten(0, (lanes, -1))
            own.div_(self.factor.view(-1, *(1,) * (own.dim() - 1)))
            finite &= own.flatten(1).isfinite().all(1)
        self.steps_since_change.add_(1).mul_(finite)
        grow = self.steps_since_change >= GROWTH_INTERVAL
        self.factor.copy_(
            torch.where(finite, torch.where(grow, self.factor * 2, self.factor), self.factor / 2)
        )
        self.steps_since_change.mul_(~grow)
        return finite

    def state(self) -> dict[str, Tensor]:
        """Every tensor that a step changes, by name: (K,) each."""
        return {"factor": self.factor, "steps_since_change": self.steps_since_change}
