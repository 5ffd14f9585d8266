"""Where norms take their statistics from at evaluation: one typed value, whatever way it was written.

    running                what training left
    batch                  the images beside it, as many as in training
    batch:class_pure       the same, each batch of one class
    batch:class_disjoint   the same, no two images of a batch of one class
    precise                up to 10,000 training images: mean and biased variance of all values together
    precise:n              the same from n training images
    precise:mean_var       the mean of the batches' variances, Bessel-corrected, instead
    precise:mean_var:n     the same from n training images
    adapt                  the test images
    adapt:n                n test images
    adapt:n:N              n test images against a prior of N: (N running + n own) / (N + n)
    blend:α                α of the example's own statistics with 1 − α of the running ones
    ema_copy               the averaged weights of optim.ema, with the running statistics of the raw net
    ema_average            the averaged weights, with running statistics averaged in the same way
    ema_precise            the averaged weights, with statistics taken as by precise

`engine.evaluate` says more, with references.
"""

from __future__ import annotations

from typing import NamedTuple

from normbench.errors import InputError, unknown
from normbench.numbers import whole

KINDS = ("running", "batch", "precise", "adapt", "blend", "ema_copy", "ema_average", "ema_precise")
ARRANGEMENTS = ("class_pure", "class_disjoint")
FORMS = (
    "running, batch, batch:class_pure, batch:class_disjoint, precise, precise:n, precise:mean_var, "
    "precise:mean_var:n, adapt, adapt:n, adapt:n:N, blend:α, ema_copy, ema_average, ema_precise"
)


class Source(NamedTuple):
    """A source of statistics.

    Attributes:
        kind:   one of KINDS.
        form:   of batch: one of ARRANGEMENTS; of precise: mean_var; else empty.
        images: n, the images that statistics are taken from; None: as many as the kind has.
        prior:  N of adapt, images that the running statistics count as; None: they do not count.
        share:  α of blend.
    """

    kind: str = "running"
    form: str = ""
    images: int | None = None
    prior: int | None = None
    share: float | None = None

    def __str__(self) -> str:
        """The canonical spelling, as metrics and records have it."""
        numbers = [str(n) for n in (self.images, self.prior) if n is not None]
        share = [] if self.share is None else [repr(self.share).removesuffix(".0")]
        return ":".join([self.kind, *filter(None, [self.form]), *numbers, *share])

    @property
    def averaged(self) -> bool:
        """Whether it evaluates averaged weights in place of the raw ones."""
        return self.kind.startswith("ema_")

    @property
    def suffix(self) -> str:
        """What names of metrics end with: nothing for running statistics."""
        return "" if self == RUNNING else f"@{self}"


RUNNING = Source()


def parse_source(value: str | Source) -> Source:
    """Read a source; one that is parsed already stays as it is.

    >>> parse_source("precise:mean_var:0100")
    Source(kind='precise', form='mean_var', images=100, prior=None, share=None)
    >>> str(parse_source("adapt:32:16")), str(parse_source("blend:.10"))
    ('adapt:32:16', 'blend:0.1')

    Raises:
        InputError: a name that does not exist, or a number out of range.
    """
    if isinstance(value, Source):
        return value
    kind, *given = str(value).strip().split(":")
    if kind not in KINDS:
        raise unknown("source in eval.statistics", value, KINDS, remedy=f"forms: {FORMS}")
    if kind == "blend":
        return Source(kind, share=_share(value, given))
    form = ""
    if given and not given[0].isdecimal():
        forms = {"batch": ARRANGEMENTS, "precise": ("mean_var",)}.get(kind, ())
        if given[0] not in forms:
            raise unknown("source in eval.statistics", value, [f"{kind}:{each}" for each in forms] or KINDS,
                          remedy=f"forms: {FORMS}")  # fmt: skip
        form = given.pop(0)
    most = {"precise": 1, "adapt": 2}.get(kind, 0)
    numbers = [whole(text) or 0 for text in given]
    if len(numbers) > most or not all(numbers):
        takes = f"at most {most} whole number{'s' * (most > 1)} ≥ 1" if most else "no number"
        raise InputError(f"eval.statistics: {kind} takes {takes}; got '{value}'. Forms: {FORMS}")
    return Source(kind, form, *numbers)


def _share(value: object, given: list[str]) -> float:
    """α of blend."""
    try:
        [share] = map(float, given)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise InputError(f"eval.statistics: blend takes one number in [0, 1], as in blend:0.1; got '{value}'")
    return share + 0.0  # −0 becomes 0
