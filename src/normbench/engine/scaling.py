"""Loss scaling for fp16, lane by lane: one lane's overflow costs the others nothing."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

#: As torch.amp.GradScaler: the first scale, and the steps without overflow after which it doubles.
FIRST, PATIENCE = 2.0**16, 2000


class LossScale:
    """A factor per lane on its loss, halved where gradients overflow and doubled where they long have not.

    Args:
        lanes:  K.
        device: where the factors live.

    Reference: micikevicius2018 — Mixed Precision Training, ICLR 2018, §3.2, with the dynamic choice of
               torch.amp.GradScaler.
    """

    def __init__(self, lanes: int, device: torch.device) -> None:
        self.factor = torch.full((lanes,), FIRST, device=device)
        self.quiet = torch.zeros(lanes, device=device)  # steps since the last change

    def __call__(self, losses: Tensor) -> Tensor:
        """(K,) → (K,)"""
        return losses * self.factor

    @torch.no_grad()
    def undo(self, gradients: Sequence[Tensor]) -> Tensor:
        """Divide gradients, lane-major and changed in place, by their lanes' factors, and choose the next
        ones.

        Returns:
            Which lanes' gradients are all finite: (K,). The others are not to be used.
        """
        lanes = len(self.factor)
        finite = torch.ones(lanes, dtype=torch.bool, device=self.factor.device)
        for gradient in gradients:
            own = gradient.unflatten(0, (lanes, -1))
            own.div_(self.factor.view(-1, *(1,) * (own.dim() - 1)))
            finite &= own.flatten(1).isfinite().all(1)
        self.quiet.add_(1).mul_(finite)
        grow = self.quiet >= PATIENCE
        self.factor.copy_(
            torch.where(finite, torch.where(grow, self.factor * 2, self.factor), self.factor / 2)
        )
        self.quiet.mul_(~grow)
        return finite

    def tensors(self) -> list[Tensor]:
        """What a step changes."""
        return [self.factor, self.quiet]
