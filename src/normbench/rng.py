"""Random numbers as a function of seed, purpose and counters. There is no generator state to save.

    key   = SHA-256(seed, purpose)                              64 bits, one per lane
    state = mix(… mix(mix(key + γ(c₁+1)) + γ(c₂+1)) …)          counters c: epoch, step, layer …
    uᵢ    = mix(state + γ(i+1)) / 2⁶⁴                           i = 0 … count−1

γ is the golden ratio's 64-bit fraction and `mix` is the finaliser of SplitMix64, so the numbers of a state
are a SplitMix64 stream. A lane's numbers depend only on its seed, the purpose and the counters. They are the
same bits for every K, every position of the lane and every device. A resumed run needs no saved state. If the
step is a tensor, a captured CUDA graph gives new numbers at every replay.

Reference:  steele2014 — Fast Splittable Pseudorandom Number Generators, OOPSLA 2014, §4 and figure 16
            (mix: variant 13 of Stafford's parameters, as in Vigna's splitmix64.c).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor


def _signed(word: int) -> int:
    """The int64 with the same 64 bits: torch has no arithmetic on uint64."""
    word &= 2**64 - 1
    return word - 2**64 if word >= 2**63 else word


_GOLDEN = _signed(0x9E3779B97F4A7C15)
_MULTIPLIER_1 = _signed(0xBF58476D1CE4E5B9)
_MULTIPLIER_2 = _signed(0x94D049BB133111EB)


def lane_keys(seeds: Sequence[int], purpose: str) -> Tensor:
    """One 64-bit key per lane, (K,) int64 on the CPU; the same in every process and version.

    >>> lane_keys([0, 1], "flip").tolist()
    [-8753868664852697967, -198742574784730109]
    """
    return torch.tensor([_signed(_hash(seed, purpose)) for seed in seeds], dtype=torch.int64)


def uniform(
    keys: Tensor,
    *counters: int | Tensor,
    count: int,
    first: int = 0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Uniform numbers in [0, 1), (K, count) on the device of `keys`.

    Args:
        keys:     (K,) int64, see `lane_keys`.
        counters: distinguish this call from others with the same keys. An int64 tensor, 0-d or (K,) with one
                  counter per lane, gives the same numbers as ints. It must be on the device of `keys`.
        count:    numbers per lane. A longer call begins with the numbers of a shorter one.
        first:    numbers of the lane to leave out: the call returns numbers `first` … `first + count − 1`.
        dtype:    float32 gets 24 random bits, float64 gets 53. Every value is exact and none rounds to 1.
    """
    state = keys
    for counter in counters:
        state = _mix(state + _stride(counter))
    index = torch.arange(first + 1, first + count + 1, dtype=torch.int64, device=keys.device)
    bits = 53 if dtype == torch.float64 else 24
    words = _mix(state.unsqueeze(1) + index * _GOLDEN)  # (K, count)
    return _logical_shift(words, 64 - bits).to(dtype).mul_(2.0**-bits)


def generator(seed: int, purpose: str) -> torch.Generator:
    """A new CPU generator for one seed and purpose, such as initial weights or permutations."""
    return torch.Generator().manual_seed(_hash(seed, purpose) >> 1)


def _hash(seed: int, purpose: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}/{purpose}".encode()).digest()[:8], "big")


def _stride(counter: int | Tensor) -> int | Tensor:
    return (counter + 1) * _GOLDEN if isinstance(counter, Tensor) else _signed((counter + 1) * _GOLDEN)


def _mix(word: Tensor) -> Tensor:
    """A bijection of 64 bits. Every input bit flips every output bit with a probability near ½."""
    word = (word ^ _logical_shift(word, 30)) * _MULTIPLIER_1
    word = (word ^ _logical_shift(word, 27)) * _MULTIPLIER_2
    return word ^ _logical_shift(word, 31)


def _logical_shift(word: Tensor, places: int) -> Tensor:
    """Shift right and fill with zeros. The shift of int64 copies the sign bit."""
    low_bits: int = 2 ** (64 - places) - 1
    return (word >> places) & low_bits
