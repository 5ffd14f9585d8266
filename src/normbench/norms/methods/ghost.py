"""Ghost batch normalization (key: ghost)."""

from __future__ import annotations

from collections.abc import Sequence

from normbench.errors import NormError
from normbench.norms.core import Affine
from normbench.norms.ema import PerLaneMomentum
from normbench.norms.lanes import PerLane, positions
from normbench.norms.methods.bn import BatchNorm
from normbench.norms.registry import register


@register(
    "ghost",
    family="batch",
    reduces="N/S, H, W",
    reference="hoffer2017",
    batch_statistics=True,
    absorbs_bias=True,
    eval_differs=True,
)
class GhostBatchNorm(BatchNorm):
    """Ghost batch normalization: batch norm over chunks of the batch with shared parameters and state.

        y = γ (x − μ_s) / √(σ_s² + ε) + β                                Algorithm 1
        μ_s, σ_s² over 𝒮 = {same channel} × ghost s × H × W              training
        μ, σ² ← running statistics                                      evaluation

    Symbols:      μ_s mean · σ_s² var (biased) of ghost s = 1 … S · γ weight · β bias
    Reduces:      (N/S, H, W) for each channel and each of S = N / ghost_size ghosts of consecutive images.
    Train / eval: differ; evaluation with batch statistics keeps the ghosts. Batch-independent: no.
    Running statistics: one update a step, s ← s + w_t (new − s), where `new` is the mean over ghosts of their
                  means and of their Bessel-corrected variances. The variance between the means of ghosts is
                  not part of it.
    Numerics:     fp32 (fp64 for fp64 input); ε inside the root.

    Shape:
        x: (N, K·C, *spatial), N a multiple of ghost_size unless running statistics are used → y: same shape
           and dtype
        weight, bias, running_mean, running_var: (K·C,);  num_batches_tracked: (K,), a scalar for K = 1

    Args:
        channels:   C, channels of one run.
        lanes:      K, stacked runs; 1 for a lone run.
        ghost_size: images per ghost; must divide `batch`.
        momentum:   weight of the new batch, or another form of `normbench.momentum`; one value or one per
                    lane.
        eps:        ε > 0; one value or one per lane.
        affine:     True, False, "weight" or "bias".
        track:      whether to keep running statistics. Without them evaluation uses ghosts.
        variance:   "unbiased": the running variance is Bessel-corrected, as in torch; "biased": it is not, as
                    in Keras and flax.
        batch:      images of one worker, so that no ghost holds images of two workers. None: there is one
                    worker.

    Raises:
        NormError: an argument out of range, ghost_size not dividing `batch` or N, or one value per statistic.

    Same as:    bn with batch=16, for ghost_size=16.
    Reference:  hoffer2017 — Train longer, generalize better, NeurIPS 2017, arXiv:1705.08741, §4.
    Deviations: the paper updates the running statistics after each ghost, S times per step. So the last ghost
                weighs m and the whole step 1 − (1 − m)^S. Here a step is one update of weight m for every S,
                as with TensorFlow's virtual_batch_size, so that momentum means the same as for bn.
    """

    def __init__(
        self,
        channels: int,
        lanes: int = 1,
        *,
        ghost_size: int = 16,
        momentum: PerLaneMomentum = 0.1,
        eps: PerLane = 1e-5,
        affine: Affine = True,
        track: bool = True,
        variance: str = "unbiased",
        batch: int | None = None,
    ) -> None:
        super().__init__(
            channels,
            lanes,
            momentum=momentum,
            eps=eps,
            affine=affine,
            track=track,
            batch=batch,
            variance=variance,
        )
        self.ghost_size = self.whole("ghost_size", ghost_size)
        self._fit_batch()

    def statistic_size(self, images: int) -> int:
        return self.ghost_size

    def check(self, shape: Sequence[int]) -> None:
        self._fit_batch()
        self.chunks(shape[0])
        self.need_several(
            self.ghost_size * positions(shape),
            f"a ghost of {self.ghost_size} image on a map of {positions(shape)} position",
            "use ghost_size ≥ 2, another norm, or leave this layer out",
        )

    def _fit_batch(self) -> None:
        if self.batch is not None and self.batch % self.ghost_size:
            raise NormError(
                f"ghost: ghost_size must divide batch; got ghost_size={self.ghost_size} and "
                f"batch={self.batch}. Set ghost_size to a divisor of batch"
            )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, ghost_size={self.ghost_size}"
