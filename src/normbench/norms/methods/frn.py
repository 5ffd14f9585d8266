"""Filter response normalization with thresholded linear unit (key: frn)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from normbench.norms.core import Affine, Norm
from normbench.norms.lanes import PerLane, along_channels, positions, spread
from normbench.norms.registry import register
from normbench.norms.spatial_moments import map_mean

#: Initial value of the learned ε.
INITIAL_EPS = 1e-4


@register("frn", family="sample", reduces="H, W", reference="singh2020", activates=True)
class FilterResponseNorm(Norm):
    """Filter response normalization: divides each map by its root mean square; includes the activation.

        y = γ x / √(ν² + ε) + β,  ν² = mean x²                         eqs. (1), (2)
        z = max(y, τ)                                                  eq. (3), the thresholded linear unit
        ν² over 𝒮 = {same image, same channel} × H × W
        ε = eps + |ε_l|; by default the second term counts only on maps of one position

    Symbols:      γ weight · β bias · τ tau · ε_l eps_learned
    Reduces:      (H, W) for each image and channel.
    Train / eval: identical; no running state. Batch-independent: yes.
    Numerics:     fp32 (fp64 for fp64 input); ε inside the root. If y = τ, the gradient goes to τ, as with a
                  ReLU at 0.

    Shape:
        x: (N, K·C, *spatial) → y: same shape and dtype
        weight, bias, tau: (K·C,);  eps_learned: (K,)

    Args:
        channels:  C, channels of one run.
        lanes:     K, stacked runs; 1 for a lone run.
        learn_eps: "auto": ε_l counts on maps of one position, where a fixed ε would leave only the sign;
                   True: on every map; False: there is no ε_l, and maps of one position are refused.
        eps:       ε > 0; one value or one per lane. The paper: 1e-6.
        affine:    True, False, "weight" or "bias".
        activated: whether τ replaces an activation that would follow. If not, as before an addition, there is
                   no τ and the output is y.

    Raises:
        NormError: an argument out of range, or maps of one position without learned ε.

    Reference:  singh2020 — Filter Response Normalization Layer: Eliminating Batch Dependence in the Training
                of Deep Neural Networks, CVPR 2020, arXiv:1911.09737, §3.
    Deviations: on maps of several positions "auto" leaves ε_l unused, with gradient 0. ε_l is one number per
                layer and starts at 10⁻⁴, as in TensorFlow Addons. timm's layer has no ε_l and ε = 1e-5. The
                paper warms up the learning rate; here the schedule does that.
    """

    roles: ClassVar[dict[str, str]] = {**Norm.roles, "tau": "shift", "eps_learned": "scale"}

    tau: nn.Parameter | None
    eps_learned: nn.Parameter | None

    def __init__(
        self,
        channels: int,
        lanes: int = 1,
        *,
        learn_eps: bool | str = "auto",
        eps: PerLane = 1e-6,
        affine: Affine = True,
        activated: bool = True,
    ) -> None:
        super().__init__(channels, lanes, eps=eps, affine=affine)
        self.learn_eps = self.choice("learn_eps", learn_eps, ("auto", True, False))
        self.tau = nn.Parameter(torch.zeros(lanes * channels)) if self.flag("activated", activated) else None
        self.eps_learned = nn.Parameter(torch.full((lanes,), INITIAL_EPS)) if learn_eps else None

    def normalize(self, x: Tensor) -> Tensor:
        y = self.scaled_by(x, torch.rsqrt(map_mean(x.square()) + self._epsilon(x)), x)
        if self.tau is None:
            return y
        tau = along_channels(self.tau, x)
        return F.relu(y - tau) + tau  # PERF: twice as fast as torch.maximum, forward and backward

    def check(self, shape: Sequence[int]) -> None:
        if not self.learn_eps:
            self.need_several(
                positions(shape),
                f"a map of {positions(shape)} position, of which only the sign is left,",
                "use learn_eps=auto, another norm, or leave this layer out",
            )

    def _epsilon(self, x: Tensor) -> float | Tensor:
        """ε of every lane. An unused ε_l is multiplied by 0, so that it always has a gradient."""
        eps = self.eps_along(x)
        if self.eps_learned is None:
            return eps
        counts = self.learn_eps is True or positions(x.shape) == 1
        return eps + along_channels(spread(self.eps_learned.abs() * counts, self.channels), x)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, learn_eps={self.learn_eps}, activated={self.tau is not None}"
