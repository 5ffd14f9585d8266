"""Frozen batch normalization (key: frozen)."""

from __future__ import annotations

from collections.abc import Sequence

from normbench.norms.core import Affine
from normbench.norms.ema import PerLaneMomentum
from normbench.norms.lanes import PerLane
from normbench.norms.methods.bn import BatchNorm
from normbench.norms.registry import register


@register(
    "frozen",
    family="batch",
    reduces="N, H, W",
    reference="wu2021",
    batch_statistics=True,
    eval_differs=True,
)
class FrozenBatchNorm(BatchNorm):
    """Frozen batch normalization: batch norm whose statistics are frozen after a share of the run.

        y = γ (x − μ) / √(σ² + ε) + β
        μ, σ² over 𝒮 = {same channel} × batch × H × W                   training, before `after`
        μ, σ² ← running statistics, constants                          training from then on, and evaluation

    Symbols:      μ mean · σ² var (biased) · γ weight · β bias
    Reduces:      (N, H, W) for each channel until the statistics freeze, then nothing; N in chunks of `batch`
                  images if `batch` is set (one chunk per worker).
    Train / eval: differ until the statistics freeze, then identical. Batch-independent: no, until then.
    Running statistics: as bn's until they freeze. From then on training uses them and does not move them, and
                  `train()` does not change that. γ and β are still trained. Frozen training reads statistics
                  that depend on `momentum`, so momentum changes training.
    Numerics:     fp32 (fp64 for fp64 input); ε inside the root. A bias before the layer is absorbed until
                  the statistics freeze.

    Shape:
        x: (N, K·C, *spatial) → y: same shape and dtype
        weight, bias, running_mean, running_var: (K·C,);  num_batches_tracked: (K,), a scalar for K = 1

    Args:
        channels: C, channels of one run.
        lanes:    K, stacked runs; 1 for a lone run.
        after:    share of the run, in [0, 1], after which statistics are frozen; `begin_step` tells the
                  share. 0: from the first step on, for pretrained statistics; 1: never. If nobody calls
                  `begin_step`, only 0 freezes them.
        momentum: weight of the new batch, or another form of `normbench.momentum`; one value or one per lane.
        eps:      ε > 0; one value or one per lane.
        affine:   True, False, "weight" or "bias".
        variance: "unbiased": the running variance is Bessel-corrected, as in torch; "biased": it is not, as
                  in Keras and flax.
        batch:    images per statistic; must divide N. None: all of x.

    Attributes:
        frozen: whether the statistics are frozen now.

    Raises:
        NormError: an argument out of range, and until they freeze, N not a multiple of `batch` or one value
                   per statistic.

    Same as:    bn for after=1.
    Reference:  wu2021 — Rethinking "Batch" in BatchNorm, arXiv:2105.07576. Frozen statistics in fine-tuning
                are older, and no paper introduced them.
    Deviations: none from the paper: γ and β stay trainable. torchvision's and detectron2's FrozenBatchNorm2d
                fix them as well.
    """

    def __init__(
        self,
        channels: int,
        lanes: int = 1,
        *,
        after: float = 0.5,
        momentum: PerLaneMomentum = 0.1,
        eps: PerLane = 1e-5,
        affine: Affine = True,
        variance: str = "unbiased",
        batch: int | None = None,
    ) -> None:
        super().__init__(
            channels, lanes, momentum=momentum, eps=eps, affine=affine, batch=batch, variance=variance
        )
        self.after = self.share("after", after)
        self.phase_change_at = self.after

    @property
    def frozen(self) -> bool:
        return self.after == 0 if self.after_phase_change is None else self.after_phase_change

    @property
    def by_batch(self) -> bool:
        return not self.frozen if self.training else super().by_batch

    @property
    def tracks(self) -> bool:
        return super().tracks and not self.frozen

    def check(self, shape: Sequence[int]) -> None:
        if self.after > 0 or not self.training:
            super().check(shape)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, after={self.after}"
