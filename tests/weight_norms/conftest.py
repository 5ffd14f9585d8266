"""Stacked weights for the tests of weight maps. A test that takes `key` runs for every registered map."""

from __future__ import annotations

import pytest
import torch

from normbench import weight_norms

LANES = 3


@pytest.fixture(params=sorted(weight_norms.catalogue()))
def key(request) -> str:
    return request.param


@pytest.fixture(params=[(4, 2, 3, 3), (4, 5)], ids=["convolution", "linear"])
def weights(request) -> list[torch.Tensor]:
    """Three lanes' own weights, (Cout, Cin, *kernel) or (Cout, Cin), neither centred nor of unit length."""
    generator = torch.Generator().manual_seed(3)
    return [0.3 + torch.randn(request.param, generator=generator, dtype=torch.float64) for _ in range(LANES)]


@pytest.fixture
def stack():
    """Weights of lanes as layers store them: (K·Cout, Cin, *kernel) or (K, Cout, Cin)."""

    def stack(weights: list[torch.Tensor]) -> torch.Tensor:
        stacked = torch.stack(weights)
        return stacked if stacked.dim() == 3 else stacked.flatten(0, 1)

    return stack
