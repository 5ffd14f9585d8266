"""Norms whose scale and shift come from a second input: for generators and style transfer.

Build them from their classes. The catalogue and the command line do not have them: their models classify, and
a label as the condition would give the answer away.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from normbench.errors import NormError
from normbench.norms.core import Norm
from normbench.norms.ema import PerLaneMomentum
from normbench.norms.lanes import PerLane, along_first, by_lane, positions
from normbench.norms.methods.bn import BatchNorm


class ConditionalBatchNorm(BatchNorm):
    """Conditional batch normalization: batch norm whose γ and β depend on a vector or class per image.

        y = (1 + G z) (x − μ) / √(σ² + ε) + B z
        μ, σ² as bn

    Symbols:      μ mean · σ² var (biased) · G gain · B shift · z condition (a class is a unit vector)
    Reduces:      (N, H, W) for each channel; N in chunks of `batch` images if that is set.
    Train / eval: differ. Batch-independent: no.
    Running statistics: as bn; one set for all conditions.
    Numerics:     fp32 (fp64 for fp64 input); ε inside the root.

    Shape:
        x: (N, K·C, *spatial), condition → y: same shape and dtype
        condition: vectors (N, K·features), or classes (N, K) as int64; (N,) serves all runs
        gain, shift: (K·C, features), or (K·conditions, C) for classes

    Args:
        channels:   C, channels of one run.
        lanes:      K, stacked runs; 1 for a lone run.
        features:   length of the condition vector. In the paper it consists of a class embedding, shared by
                    all layers, and a part of the noise.
        conditions: number of classes instead; each class has its own γ and β.
        momentum:   weight of the new batch, or another form of `normbench.momentum`; one value or one per
                    lane.
        eps:        ε > 0; one value or one per lane.
        track:      whether to keep running statistics. Without them evaluation uses the batch.
        batch:      images per statistic; must divide N. None: all of x.

    Raises:
        NormError: an argument out of range, or not one of features and conditions.

    Reference:  brock2019 — Large Scale GAN Training for High Fidelity Natural Image Synthesis, ICLR 2019,
                arXiv:1809.11096, §3.1 and appendix B.
    Deviations: G and B start at 0, so that the layer starts as bn without γ and β; the paper draws orthogonal
                matrices and normalizes them spectrally. Classes are not in the paper, but in its authors'
                PyTorch code (BigGAN-PyTorch, G_shared false).
    """

    key: ClassVar[str] = "ConditionalBatchNorm"
    roles: ClassVar[dict[str, str]] = {"gain": "scale", "shift": "shift"}

    def __init__(
        self,
        channels: int,
        lanes: int = 1,
        *,
        features: int | None = None,
        conditions: int | None = None,
        momentum: PerLaneMomentum = 0.1,
        eps: PerLane = 1e-5,
        track: bool = True,
        batch: int | None = None,
    ) -> None:
        super().__init__(channels, lanes, momentum=momentum, eps=eps, affine=False, track=track, batch=batch)
        if (features is None) == (conditions is None):
            raise NormError(
                f"{self.key}: give features or conditions, one of them; "
                f"got features={features} and conditions={conditions}"
            )
        self.features, self.conditions = features, conditions
        if features is not None:
            shape = (lanes * channels, self.whole("features", features))
        else:
            shape = (lanes * self.whole("conditions", conditions), channels)
        self.gain, self.shift = (nn.Parameter(torch.zeros(shape)) for _ in range(2))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:  # type: ignore[override]
        """Normalize x: (N, K·C, *spatial) under a condition → same shape and dtype."""
        self._admit(x)
        if x.numel() == 0:
            return self._empty(x)
        wide = x if x.dtype in (torch.float32, torch.float64) else x.float()
        gain, shift = (self._of(table, condition) for table in (self.gain, self.shift))
        y = self.normalize(wide) * (1 + along_first(gain, x)) + along_first(shift, x)
        return y.to(x.dtype)

    def _of(self, table: Tensor, condition: Tensor) -> Tensor:
        """The values of a table for the condition of every image: (N, K·C)."""
        by_run = torch.unflatten(table, 0, (self.lanes, -1))
        if self.features is not None:
            vectors = by_lane(condition.to(table.dtype), self.lanes)
            return torch.einsum("kcf,nkf->nkc", by_run, vectors).flatten(1)
        classes = condition.view(len(condition), -1).expand(-1, self.lanes)
        runs = torch.arange(self.lanes, device=table.device)
        return by_run[runs, classes].flatten(1)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, features={self.features}, conditions={self.conditions}"


class AdaIN(Norm):
    """Adaptive instance normalization: every channel of an image gets the mean and deviation of a style's.

        y = σ(s) (x − μ(x)) / σ(x) + μ(s)                               eq. (8)
        μ, σ over 𝒮 = {same image, same channel} × H × W                eqs. (5), (6)

    Symbols:      s style · μ mean · σ = √(variance (biased) + ε)
    Reduces:      (H, W) for each image and channel, of content and of style.
    Train / eval: identical; no running state, no parameters. Batch-independent: yes.
    Numerics:     fp32 (fp64 for fp64 input), in two passes; ε inside both roots.

    Shape:
        content: (N, K·C, *spatial), style: (N, K·C, *other) → y: as content
        one style, (1, K·C, *other), serves all images

    Args:
        channels: C, channels of one run.
        lanes:    K, stacked runs; 1 for a lone run.
        eps:      ε > 0; one value or one per lane.

    Raises:
        NormError: an argument out of range.

    Reference:  huang2017b — Arbitrary Style Transfer in Real-time with Adaptive Instance Normalization,
                ICCV 2017, arXiv:1703.06868, §5.
    Deviations: none from the paper. The authors' Torch code (AdaIN-style) takes the style's deviation with
                Bessel's correction and without ε, so an image in its own style changes.
    """

    key: ClassVar[str] = "AdaIN"
    roles: ClassVar[dict[str, str]] = {}

    def __init__(self, channels: int, lanes: int = 1, *, eps: PerLane = 1e-5) -> None:
        super().__init__(channels, lanes, eps=eps)

    @property
    def takes_statistics(self) -> bool:
        return False  # a map of one position becomes the style's mean, which is the paper's equation

    def forward(self, content: Tensor, style: Tensor) -> Tensor:  # type: ignore[override]
        """Give content: (N, K·C, *spatial) the statistics of style → shape and dtype of the content."""
        for images in (content, style):
            self._admit(images)
        if content.numel() == 0:
            return self._empty(content)
        wide = torch.promote_types(content.dtype, torch.float32)
        x, s = content.to(wide), style.to(wide)
        (own_mean, own_deviation), (mean, deviation) = map(self._statistics, (x, s))
        y = (x - along_first(own_mean, x)) * along_first(deviation / own_deviation, x) + along_first(mean, x)
        return y.to(content.dtype)

    def _statistics(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """μ and σ of every image and channel, both (N, K·C)."""
        var, mean = torch.var_mean(x.reshape(*x.shape[:2], -1), 2, correction=0)
        return mean, torch.sqrt(var + self.eps_along(mean))

    def check(self, shape: Sequence[int]) -> None:
        self.need_several(
            positions(shape), f"a map of {positions(shape)} position", "use a layer with larger maps"
        )
