"""Norm momentum: every accepted spelling, converted to the weight of the NEW batch.

A norm with running statistics updates, per channel, s ← s + w_t (batch − s). w_t is the weight of the NEW
batch, t = 1 … T counts batches, and p = (t − 1) / T is the share of the run that is done.

    0.1                           w_t = 0.1: PyTorch's direction, the plain number
    cumulative                    w_t = 1 / t: equal weight to every batch (torch: momentum=None)
    debiased:m                    w_t = m / (1 − (1 − m)^t): no trace of the initial value (Adam's correction)
    linear:A:B                    w_t = A + (B − A) p
    cosine:A:B                    w_t = B + (A − B) (1 + cos πp) / 2
    exponential:A:B               w_t = A (B / A)^p
    step:A:FACTOR:SHARE[:FLOOR]   w_t = max(A FACTOR^⌊p / SHARE⌋, FLOOR)
    keras:0.99                    the plain number 1 − 0.99: keras gives the weight of the OLD value
    caffe:0.999                   debiased:0.001

Caffe keeps a sum S ← f S + batch and its weight c ← f c + 1 (its `scale_factor`), both from 0, and evaluates
S / c. So c_t = (1 − f^t) / (1 − f), and S_t / c_t moves towards the batch by 1 / c_t. This is the debiased
momentum with m = 1 − f. With f = 1 it is the cumulative one.

Sources of the conventions: PaddlePaddle, MXNet, ONNX (BatchNormalization-15) and Caffe2 (SpatialBN) document
running · momentum + batch · (1 − momentum). Chainer's `decay` multiplies the running value. Caffe:
batch_norm_layer.cpp.

Keras and flax also move the biased variance, torch the unbiased one. At batch 2 on inputs without spatial
positions the two differ by a factor of 2. `variance=biased` of a norm moves theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple

from normbench.errors import InputError, unknown
from normbench.numbers import SMALLEST

WEIGHT_OF_NEW = ("torch", "lasagne")  # Lasagne: alpha, mean ← (1 − alpha) mean + alpha batch
WEIGHT_OF_OLD = ("keras", "tf", "flax", "haiku", "chainer", "paddle", "mxnet", "onnx", "caffe2")
#: The parameters of each schedule, as users write them.
SCHEDULES = {
    "linear": "A:B",
    "cosine": "A:B",
    "exponential": "A:B",
    "step": "A:FACTOR:SHARE[:FLOOR]",
}
CONVENTIONS = ("debiased", *WEIGHT_OF_NEW, *WEIGHT_OF_OLD, "caffe", *SCHEDULES)
_SPELLINGS = ", ".join(
    [
        f"a number in [0, 1] (weight of the new batch; 0 or ≥ {SMALLEST:g}), cumulative, debiased:m",
        *(f"{name}:{numbers}" for name, numbers in SCHEDULES.items()),
        "or m in the convention of a library, " + "|".join((*WEIGHT_OF_NEW, *WEIGHT_OF_OLD, "caffe")) + ":m",
    ]
)
#: Tolerance for a share of the run that is a rounded multiple of SHARE.
_TOLERANCE = 1e-9
#: Most terms in the sum for the effect of a schedule. Longer runs are sampled evenly.
_MOST_TERMS = 100_000


class Effect(NamedTuple):
    """The effect of a momentum over a run of T batches.

    Attributes:
        weight:    w_T, the weight of the last batch.
        half_life: number of last batches that have half of the weight. The earlier batches and the initial
                   value have the other half. If the initial value has more than half, it is more than T for
                   a constant momentum and infinite for a schedule.
        initial:   weight of the initial value at the end.
    """

    weight: float
    half_life: float
    initial: float


class Momentum(NamedTuple):
    """The weight that running statistics give to a new batch.

    Attributes:
        kind:       ema, debiased, cumulative, or a name in SCHEDULES.
        rate:       m. For a schedule it is A.
        parameters: the other numbers of a schedule.
    """

    kind: str
    rate: float
    parameters: tuple[float, ...] = ()

    def __str__(self) -> str:
        if self.kind in ("ema", "cumulative"):
            return repr(self.rate) if self.kind == "ema" else self.kind
        return ":".join([self.kind, *map(repr, (self.rate, *self.parameters))])

    @property
    def canonical(self) -> float | str:
        """The spelling for signatures: a float for a plain number, else text."""
        return self.rate if self.kind == "ema" else str(self)

    @property
    def scheduled(self) -> bool:
        """Whether m changes over the run."""
        return self.kind in SCHEDULES

    def at(self, progress: float) -> float:
        """m at a share of the run: A at 0, B at 1. It is constant without a schedule.

        >>> parse_momentum("linear:0.1:0.001").at(0.5)
        0.0505
        """
        return _AT[self.kind](progress, self.rate, *self.parameters) if self.scheduled else self.rate

    def effect(self, steps: int, batches: int | None = None) -> Effect:
        """The weights of the batches and of the initial value at the end of a run.

        >>> parse_momentum("cumulative").effect(200)
        Effect(weight=0.005, half_life=100.0, initial=0.0)

        Args:
            steps:   length of the run.
            batches: T ≥ 1, number of first batches that update the statistics. None: all batches of the run.
        """
        count = steps if batches is None else batches
        if self.kind == "cumulative":
            return Effect(1 / count, count / 2, 0.0)
        if self.scheduled:
            return self._sampled(steps, count)
        log = _log_remaining(self.rate)
        if self.kind == "debiased":
            total = -math.expm1(count * log)
            return Effect(self.rate / total, math.log1p(-total / 2) / log, 0.0)
        return Effect(self.rate, math.log(0.5) / log if log else math.inf, math.exp(count * log))

    def _sampled(self, steps: int, count: int) -> Effect:
        """The effect, summed over the single weights from the last to the first."""
        stride = -(-count // _MOST_TERMS)
        remaining, half_life = 0.0, math.inf  # log of the weight of all earlier batches
        for last in range(count, 0, -stride):
            span = min(stride, last)
            log = _log_remaining(self.at((last - 1) / steps))
            if half_life == math.inf and remaining + span * log <= math.log(0.5):
                half_life = count - last + (math.log(0.5) - remaining) / log
            remaining += span * log
        return Effect(self.at((count - 1) / steps), half_life, math.exp(remaining))


def parse_momentum(value: float | str | Momentum, called: str = "momentum") -> Momentum:
    """Parse a momentum in any accepted spelling. A parsed momentum is returned as it is.

    Numbers may be fractions, as in `step:0.5:0.5:20/180:0.001`.

    >>> parse_momentum("keras:0.99")
    Momentum(kind='ema', rate=0.01, parameters=())
    >>> parse_momentum("cumulative").canonical
    'cumulative'
    >>> parse_momentum("caffe:0.999").canonical
    'debiased:0.001'

    Args:
        value:  the momentum.
        called: its name in messages.

    Raises:
        InputError: it is not a number, it is outside its range, or its convention is unknown.
    """
    if isinstance(value, Momentum):
        return value
    text = str(value).strip()
    if text == "cumulative":
        return Momentum("cumulative", 0.0)
    name, *given = text.split(":") if ":" in text else ("torch", text)
    if name not in CONVENTIONS:
        raise unknown("momentum convention", name, CONVENTIONS)
    try:
        numbers = [_exact(number) for number in given]
    except ArithmeticError:
        raise InputError(f"{called} must be {_SPELLINGS}; got '{value}'") from None
    if name in SCHEDULES:
        return _schedule(name, numbers, value, called)
    if len(numbers) != 1:
        raise InputError(f"{called}={name} takes one number; got '{value}'. Accepted: {_SPELLINGS}")
    [m] = numbers
    if not 0 <= m <= 1 or (name == "debiased" and float(m) == 0):
        raise InputError(f"{called} must lie in [0, 1]; got '{value}'. Accepted: {_SPELLINGS}")
    if name in WEIGHT_OF_OLD or name == "caffe":
        m = 1 - m
    if name == "caffe" and float(m) == 0:
        return Momentum("cumulative", 0.0)
    return Momentum("debiased" if name in ("debiased", "caffe") else "ema", float(m))


def _exact(text: str) -> Decimal:
    """A number or a quotient of two numbers, with more digits than a float has."""
    number, slash, divisor = text.partition("/")
    exact = Decimal(number) / Decimal(divisor if slash else 1) + 0  # −0 becomes 0
    if not exact.is_finite() or (exact and float(abs(exact)) < SMALLEST):
        raise ArithmeticError(text)
    return exact


def _schedule(name: str, numbers: list[Decimal], value: object, called: str) -> Momentum:
    """Make a schedule from checked numbers."""
    wanted = f"{called}={name}:{SCHEDULES[name]}"
    most, optional = SCHEDULES[name].count(":") + 1, SCHEDULES[name].count("[")
    if not most - optional <= len(numbers) <= most:
        takes = f"{most - optional} or {most}" if optional else f"{most}"
        raise InputError(f"{wanted} takes {takes} numbers; got '{value}'")
    if not all(0 <= number <= 1 for number in numbers):
        raise InputError(f"{wanted} takes numbers in [0, 1]; got '{value}'")
    if name == "exponential" and not all(map(float, numbers)):
        raise InputError(f"{wanted} takes numbers > 0; got '{value}'")
    if name == "step" and not all(map(float, numbers[1:3])):
        raise InputError(f"{wanted} takes FACTOR > 0 and SHARE > 0; got '{value}'")
    start, *parameters = map(float, numbers)
    return Momentum(name, start, (*parameters, *[0.0] * (most - len(numbers))))


def _log_remaining(m: float) -> float:
    """log(1 − m): the log of the weight that all earlier batches keep after a batch of weight m."""
    return math.log1p(-m) if m < 1 else -math.inf


def _linear(progress: float, start: float, end: float) -> float:
    return start + (end - start) * progress


def _cosine(progress: float, start: float, end: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def _exponential(progress: float, start: float, end: float) -> float:
    return start * math.pow(end / start, progress)


def _step(progress: float, start: float, factor: float, share: float, floor: float) -> float:
    return max(start * factor ** math.floor(progress / share + _TOLERANCE), floor)


_AT: dict[str, Callable[..., float]] = {
    "linear": _linear,
    "cosine": _cosine,
    "exponential": _exponential,
    "step": _step,
}
