"""Entropy of firing patterns per unit, and aIQ (name: neural_efficiency)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from normbench import norms
from normbench.engine.evaluate import predictions
from normbench.engine.lane_assignment import using_bank
from normbench.engine.probes.images import listened
from normbench.engine.probes.protocol import Point, Probe, Reading, split_lanes

#: β of aIQ, unless the request says another number.
BETA = 2.0
#: Counts of patterns are merged if a lane holds more than this many.
MERGE_AT = 2**20


class NeuralEfficiency(Probe):
    """How much of what the units of a layer could say by firing or not they do say, over the test images.

        pattern       the units of layer l that fire (1) or not (0) at one position of one image
        efficiency[l] = −Σ_s p_s log₂ p_s / C_l            s over patterns, C_l the channels of l; at most 1
        mean          = (Π_l efficiency[l])^(1/L)          geometric mean over layers
        aiq           = (accuracy^β · mean)^(1/(β+1))

    A unit fires if the activation's input is > 0. Layers are the activations act1, act2, … in the order of
    the modules; a norm that replaces the activation counts as one, and there a unit fires if its output is
    > 0. Statistics are the running ones. `neural_efficiency@β` sets β; the default is 2. Without an
    activation, or with logits that are not finite, there is none.

    Source:     schaub2020 (neural efficiency; aIQ; β = 2 as in the tutorial of their TensorState).
    Deviations: the input of the activation decides instead of its output: the same for relu, elu and tanh,
                while the output of a sigmoid is always > 0. Patterns are told apart by 64-bit hashes.
    Cost:       one pass over the test images, and sorting the patterns.
    """

    per_bank = True
    cheap = False

    def read(self, point: Point, bank: int) -> Reading:
        network, lanes = point.network, point.lanes
        patterns: dict[str, Patterns] = {}
        hits, whole = torch.zeros(lanes, dtype=torch.float64), torch.ones(lanes, dtype=torch.bool)
        images = 0
        with ExitStack() as stack:
            stack.enter_context(using_bank(network, bank))
            for name, layer in listened(network, "activation").items():
                patterns[name] = Patterns(lanes)
                stack.callback(layer.register_forward_hook(_take(patterns[name])).remove)
            for logits, y in predictions(network, point.dataset, point.spec, fold=False):
                hits += (logits.argmax(2) == y[:, None]).sum(0).cpu()
                whole &= logits.isfinite().all(2).all(0).cpu()
                images += len(y)
        nothing = torch.full((lanes,), torch.nan, dtype=torch.float64)
        by_layer = {name: each.efficiency().where(whole, nothing) for name, each in patterns.items()}
        mean = torch.stack([*by_layer.values()]).log().mean(0).exp() if by_layer and images else nothing
        beta = float(self.argument or BETA)
        aiq = ((hits / max(images, 1)) ** beta * mean) ** (1 / (beta + 1))
        scalars = {"mean": mean.tolist(), "aiq": aiq.tolist()}
        return Reading(scalars, {"efficiency": split_lanes(by_layer, lanes)})


class Patterns:
    """Counts of the firing patterns of one layer, per lane.

    A pattern b has the hash Σ_c b_c r_c mod 2⁶⁴ with fixed random r. Two patterns share one with probability
    2⁻⁶⁴.
    """

    def __init__(self, lanes: int) -> None:
        self._lanes, self._channels = lanes, 0
        self._seen: list[list[tuple[Tensor, Tensor]]] = [[] for _ in range(lanes)]
        self._held = [0] * lanes

    def add(self, fires: Tensor) -> None:
        """Take in whether units fire: (N, K·C, *spatial) bool."""
        by_lane = fires.movedim(1, -1).reshape(-1, self._lanes, fires.shape[1] // self._lanes)
        self._channels = by_lane.shape[2]
        generator = torch.Generator().manual_seed(0)
        keys = torch.randint(-(2**63), 2**63 - 1, (self._channels,), generator=generator)
        hashes = (by_lane * keys.to(fires.device)).sum(2)  # (patterns, K)
        for lane, own in enumerate(hashes.unbind(1)):
            self._seen[lane].append(own.unique(return_counts=True))
            self._held[lane] += len(self._seen[lane][-1][0])
            if self._held[lane] > MERGE_AT:
                self._merge(lane)

    def _merge(self, lane: int) -> Tensor:
        """One entry per pattern of a lane; its counts."""
        hashes, counts = (torch.cat(parts) for parts in zip(*self._seen[lane], strict=True))
        distinct, place = hashes.unique(return_inverse=True)
        merged = torch.zeros_like(distinct).index_add_(0, place, counts)
        self._seen[lane] = [(distinct, merged)]
        self._held[lane] = 0
        return merged

    def efficiency(self) -> Tensor:
        """Entropy of the patterns in bits, per channel: (K,) in fp64; not a number if none was seen."""
        found = torch.full((self._lanes,), torch.nan, dtype=torch.float64)
        for lane in range(self._lanes if self._channels else 0):
            counts = self._merge(lane).double()
            share = counts / counts.sum()
            found[lane] = -(share * share.log2()).sum() / self._channels
        return found


def _take(patterns: Patterns) -> Callable[[nn.Module, tuple[Any, ...], Tensor], None]:
    def hook(layer: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
        patterns.add((output if isinstance(layer, norms.Norm) else inputs[0]) > 0)

    return hook
