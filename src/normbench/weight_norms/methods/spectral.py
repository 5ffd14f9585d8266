"""Spectral normalization (key: spectral)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from normbench.errors import NormError
from normbench.weight_norms.core import WeightNorm, filters, register

#: Power iterations before the first use; torch's number.
STARTING = 15


@register("spectral", reference="miyato2018", on_head=True, scale="fixed")
class SpectralNormalization(WeightNorm):
    """Spectral normalization: divides a layer's weight by its largest singular value.

        w = W / σ,   σ = uᵀ W v
        v ← Wᵀ u / ‖Wᵀ u‖,   u ← W v / ‖W v‖                            Algorithm 1, once per training step

    Symbols:      W the weight that is stored, one matrix (Cout, fan-in) per lane · u, v estimates of its
                  first left and right singular vectors · σ of its largest singular value
    Reduces:      (Cout, Cin, *kernel) of each lane.
    Train / eval: differ in state alone: a forward pass in training first moves u and v; evaluation does not.
    Running state: u and v. u starts as the unit vector eⱼ of the longest filter j, so that the first σ is at
                  least its length; 15 iterations follow. The start depends on the weight alone, not on random
                  numbers.
    Numerics:     fp32 (fp64 for an fp64 weight); the start in fp64. u and v are constants for the gradient;
                  σ is not. σ never exceeds the true value, so the normalized singular value is 1, or slightly
                  above 1 until u and v have followed the weight.

    Shape:
        weight: (K·Cout, Cin, *kernel) or (K, Cout, Cin) → same shape and dtype
        u: (K, Cout);  v: (K, fan-in)

    Args:
        weight: the initial W.
        lanes:  K, stacked runs.

    Raises:
        NormError: an initial weight of zeros, which has no singular vectors.

    Reference:  miyato2018 — Spectral Normalization for Generative Adversarial Networks, ICLR 2018,
                arXiv:1802.05957, Algorithm 1.
    Deviations: the paper starts u at random. As there, the norm is that of the weight as a matrix, not of the
                convolution as an operator. torch's parametrization moves u before v, so its state is half an
                iteration apart.
    """

    u: Tensor
    v: Tensor

    def __init__(self, weight: Tensor, lanes: int = 1) -> None:
        super().__init__(weight, lanes)
        self.lanes = lanes
        # NUMERICS: in fp64 a batch of matrices gives the same fp32 bits as each matrix alone
        matrices = filters(weight.detach()).double().unflatten(0, (lanes, -1))
        lengths = matrices.norm(dim=2)  # (K, Cout)
        empty = 0 if lengths.is_meta else int((lengths.amax(1) == 0).sum())
        if empty:
            raise NormError(
                "spectral: a weight must hold a value other than 0, or it has no singular vectors; "
                f"{empty} of {lanes} lanes are all zero. Initialise them otherwise, or use the map none"
            )
        u = torch.zeros_like(lengths).scatter_(1, lengths.argmax(1, keepdim=True), 1.0)
        for _ in range(STARTING):
            u, v = power_iteration(matrices, u)
        self.register_buffer("u", u.to(weight.dtype))
        self.register_buffer("v", v.to(weight.dtype))

    def normalize(self, filters: Tensor) -> Tensor:
        matrices = filters.unflatten(0, (self.lanes, -1))  # (K, Cout, fan-in)
        matrices = matrices.double() if self.in_double else matrices
        u, v = self.u.to(matrices.dtype), self.v.to(matrices.dtype)
        if self.training:
            with torch.no_grad():
                u, v = power_iteration(matrices, u)
                self.u.copy_(u)
                self.v.copy_(v)
        norms: Tensor = u.unsqueeze(1) @ (matrices @ v.unsqueeze(2))  # (K, 1, 1)
        normalized: Tensor = matrices / norms
        return normalized.flatten(0, 1)


def power_iteration(matrices: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
    """One step towards the first singular vectors: (K, r, c) and u (K, r) → the next u, and v (K, c).

    >>> u, v = power_iteration(torch.tensor([[[2.0, 0.0], [0.0, 0.0]]]), torch.tensor([[1.0, 0.0]]))
    >>> u.tolist(), v.tolist()
    ([[1.0, 0.0]], [[1.0, 0.0]])
    """
    v = F.normalize((u.unsqueeze(1) @ matrices).squeeze(1), dim=1)
    return F.normalize((matrices @ v.unsqueeze(2)).squeeze(2), dim=1), v
