"""Norm momentum in one direction, whatever convention it was written in.

A norm with running statistics keeps, per channel, s ← s + w_t (batch − s): w_t is the weight of the NEW
batch, t = 1 … T counts batches, p = (t − 1) / T is the share of the run that is done.

    0.1                           w_t = 0.1: PyTorch's direction, the plain number
    cumulative                    w_t = 1 / t: equal weight to every batch (torch: momentum=None)
    debiased:m                    w_t = m / (1 − (1 − m)^t): no trace of the initial value (Adam's correction)
    linear:A:B                    w_t = A + (B − A) p
    cosine:A:B                    w_t = B + (A − B) (1 + cos πp) / 2
    exponential:A:B               w_t = A (B / A)^p
    step:A:FACTOR:SHARE[:FLOOR]   w_t = max(A FACTOR^⌊p / SHARE⌋, FLOOR)
    keras:0.99                    the plain number 1 − 0.99: keras and others weigh the OLD value
    caffe:0.999                   debiased:0.001

Caffe keeps a sum S ← f S + batch and its weight c ← f c + 1 (its `scale_factor`), both from 0, and evaluates
S / c. So c_t = (1 − f^t) / (1 − f), and S_t / c_t moves towards the batch by 1 / c_t: the debiased form with
m = 1 − f, of which f = 1 is the cumulative one.

Which way a convention goes is what its documentation or source says: PaddlePaddle, MXNet, ONNX
(BatchNormalization-15) and Caffe2 (SpatialBN) write running · momentum + batch · (1 − momentum); Chainer's
`decay` multiplies the running value; Caffe: batch_norm_layer.cpp.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import Decimal
from typing import NamedTuple

from normbench.errors import InputError, unknown

WEIGHT_OF_NEW = ("torch", "lasagne")  # Lasagne: alpha, mean ← (1 − alpha) mean + alpha batch
WEIGHT_OF_OLD = ("keras", "tf", "flax", "haiku", "chainer", "paddle", "mxnet", "onnx", "caffe2")
#: Numbers that each schedule takes, as users write them.
SCHEDULES = {
    "linear": "A:B",
    "cosine": "A:B",
    "exponential": "A:B",
    "step": "A:FACTOR:SHARE[:FLOOR]",
}
CONVENTIONS = ("debiased", *WEIGHT_OF_NEW, *WEIGHT_OF_OLD, "caffe", *SCHEDULES)
FORMS = ", ".join(
    [
        "a number in [0, 1] (weight of the new batch), cumulative, debiased:m",
        *(f"{name}:{numbers}" for name, numbers in SCHEDULES.items()),
        "or m as another library writes it, " + "|".join((*WEIGHT_OF_NEW, *WEIGHT_OF_OLD, "caffe")) + ":m",
    ]
)
#: How far a share of the run, written with few digits, may lie beyond a border and still count as on it.
_SLACK = 1e-9
#: Most terms that the effect of a schedule is summed over; longer runs are sampled evenly.
_TERMS = 100_000


class Effect(NamedTuple):
    """What a momentum does over a run of T batches.

    Attributes:
        weight:    w_T, of the last batch.
        half_life: how many of the last batches weigh as much as all that was before them, the initial value
                   included. More than T where a constant leaves over half to the initial value; infinite
                   where a schedule does.
        initial:   share of the initial value that is left.
    """

    weight: float
    half_life: float
    initial: float


class Momentum(NamedTuple):
    """How running statistics weigh a new batch.

    Attributes:
        kind: ema, debiased, cumulative, or a name of SCHEDULES.
        rate: m; of a schedule, A.
        rest: a schedule's further numbers.
    """

    kind: str
    rate: float
    rest: tuple[float, ...] = ()

    def __str__(self) -> str:
        if self.kind in ("ema", "cumulative"):
            return repr(self.rate) if self.kind == "ema" else self.kind
        return ":".join([self.kind, *map(repr, (self.rate, *self.rest))])

    @property
    def canonical(self) -> float | str:
        """The one spelling that enters signatures: a float for a plain number, text for the other forms."""
        return self.rate if self.kind == "ema" else str(self)

    @property
    def scheduled(self) -> bool:
        """Whether m changes over the run."""
        return self.kind in SCHEDULES

    def at(self, progress: float) -> float:
        """m when a share of the run is done: A at 0, towards B at 1; without a schedule always the same.

        >>> parse_momentum("linear:0.1:0.001").at(0.5)
        0.0505
        """
        return _AT[self.kind](progress, self.rate, *self.rest) if self.scheduled else self.rate

    def effect(self, steps: int, batches: int | None = None) -> Effect:
        """What is left of what at the end of a run.

        >>> parse_momentum("cumulative").effect(200)
        Effect(weight=0.005, half_life=100.0, initial=0.0)

        Args:
            steps:   length of the run.
            batches: T ≥ 1, those that move the statistics, the first of the run; None for all of it.
        """
        count = steps if batches is None else batches
        if self.kind == "cumulative":
            return Effect(1 / count, count / 2, 0.0)
        if self.scheduled:
            return self._sampled(steps, count)
        log = _log_kept(self.rate)
        if self.kind == "debiased":
            gone = -math.expm1(count * log)
            return Effect(self.rate / gone, math.log1p(-gone / 2) / log, 0.0)
        return Effect(self.rate, math.log(0.5) / log if log else math.inf, math.exp(count * log))

    def _sampled(self, steps: int, count: int) -> Effect:
        """The effect from the weights one by one, the last first."""
        stride = -(-count // _TERMS)
        kept, half_life = 0.0, math.inf  # log of what the batches so far have left
        for last in range(count, 0, -stride):
            span = min(stride, last)
            log = _log_kept(self.at((last - 1) / steps))
            if half_life == math.inf and kept + span * log <= math.log(0.5):
                half_life = count - last + (math.log(0.5) - kept) / log
            kept += span * log
        return Effect(self.at((count - 1) / steps), half_life, math.exp(kept))


def parse_momentum(value: float | str | Momentum) -> Momentum:
    """Read a momentum in any accepted spelling; one that is parsed already stays as it is.

    Numbers may be fractions, as in `step:0.5:0.5:20/180:0.001`.

    >>> parse_momentum("keras:0.99")
    Momentum(kind='ema', rate=0.01, rest=())
    >>> parse_momentum("cumulative").canonical
    'cumulative'
    >>> parse_momentum("caffe:0.999").canonical
    'debiased:0.001'

    Raises:
        InputError: not a number, outside its range, or a convention that is not known.
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
        raise InputError(f"norm.momentum must be {FORMS}; got '{value}'") from None
    if name in SCHEDULES:
        return _schedule(name, numbers, value)
    if len(numbers) != 1:
        raise InputError(f"norm.momentum={name} takes one number; got '{value}'. Accepted: {FORMS}")
    [m] = numbers
    if not 0 <= m <= 1 or (name == "debiased" and float(m) == 0):
        raise InputError(f"norm.momentum must lie in [0, 1]; got '{value}'. Accepted: {FORMS}")
    if name in WEIGHT_OF_OLD or name == "caffe":
        m = 1 - m
    if name == "caffe" and float(m) == 0:
        return Momentum("cumulative", 0.0)
    return Momentum("debiased" if name in ("debiased", "caffe") else "ema", float(m))


def _exact(text: str) -> Decimal:
    """A number or a quotient of two, to more digits than a float has."""
    number, slash, divisor = text.partition("/")
    exact = Decimal(number) / Decimal(divisor if slash else 1) + 0  # −0 becomes 0
    if not exact.is_finite():
        raise ArithmeticError(text)
    return exact


def _schedule(name: str, numbers: list[Decimal], value: object) -> Momentum:
    """A schedule, its numbers checked."""
    wanted = f"norm.momentum={name}:{SCHEDULES[name]}"
    most, optional = SCHEDULES[name].count(":") + 1, SCHEDULES[name].count("[")
    if not most - optional <= len(numbers) <= most:
        takes = f"{most - optional} or {most}" if optional else f"{most}"
        raise InputError(f"{wanted} takes {takes} numbers; got '{value}'")
    if not all(0 <= number <= 1 for number in numbers):
        raise InputError(f"{wanted} takes numbers in [0, 1]; got '{value}'")
    if name == "exponential" and not all(map(float, numbers)):
        raise InputError(f"{wanted} takes numbers > 0, for no power leads from or to 0; got '{value}'")
    if name == "step" and not all(map(float, numbers[1:3])):
        raise InputError(f"{wanted} takes FACTOR > 0 and SHARE > 0; got '{value}'")
    start, *rest = map(float, numbers)
    return Momentum(name, start, (*rest, *[0.0] * (most - len(numbers))))


def _log_kept(m: float) -> float:
    """log(1 − m): what one batch of weight m leaves of all before it."""
    return math.log1p(-m) if m < 1 else -math.inf


def _linear(progress: float, start: float, end: float) -> float:
    return start + (end - start) * progress


def _cosine(progress: float, start: float, end: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * progress)) / 2


def _exponential(progress: float, start: float, end: float) -> float:
    return start * math.pow(end / start, progress)


def _step(progress: float, start: float, factor: float, share: float, floor: float) -> float:
    return max(start * factor ** math.floor(progress / share + _SLACK), floor)


_AT: dict[str, Callable[..., float]] = {
    "linear": _linear,
    "cosine": _cosine,
    "exponential": _exponential,
    "step": _step,
}
