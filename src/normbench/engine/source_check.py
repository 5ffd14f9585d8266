"""Refuse, before anything is evaluated, sources and corruptions that a run cannot have."""

from __future__ import annotations

from normbench import models
from normbench.data import corruption as corruption_families
from normbench.data.shape import Shape
from normbench.engine.lane_assignment import running_norms
from normbench.errors import InputError, NormError
from normbench.sources import Source
from normbench.spec import RunSpec


def check(spec: RunSpec, image: Shape) -> None:
    """Refuse what `eval.statistics` and `eval.corruptions` ask for in vain. A network of norms without
    running statistics evaluates the same way for every source, so none is refused.

    Args:
        spec:  the run; `models.check` accepts it.
        image: channels, size and classes of the network's input.

    Raises:
        InputError: a norm that cannot serve a source, more images than there are, a batch that cannot be
            class-disjoint, or a corruption that the images cannot have.
    """
    for each in spec.eval.corruptions:
        corruption_families.check(each, image.channels, image.size)
    plain = all(len(str(source).split(":")) == 1 for source in spec.eval.statistics)
    if plain:
        return  # PERF: every norm serves these
    layers = running_norms(models.build([spec], image, dry=True))
    for source in spec.eval.statistics if layers else ():
        _check(source, spec, image, all(layer.tracked for layer in layers),
               [layer.key for layer in layers if not layer.standardizes],
               max([spec.batch, *(layer.batch or 1 for layer in layers)]))  # fmt: skip


def _check(
    source: Source, spec: RunSpec, image: Shape, tracked: bool, others: list[str], together: int
) -> None:
    asked = f"eval.statistics={source}"
    if source.form == "class_disjoint" and together > image.classes:
        raise InputError(
            f"{asked} needs batches of at most as many images as classes, {image.classes}; got {together} "
            "images per statistic. Lower batch or leave the source out"
        )
    if source.kind == "blend" and (others or not tracked):
        why = "does not evaluate by a running mean and variance alone" if others else "keeps no statistics"
        raise InputError(
            f"norm={spec.norm.name} cannot serve {asked}: it {why}; leave the source out for this norm"
        )
    if source.images is None or not tracked:
        return
    split = "training" if source.kind == "precise" else "test"
    count = image.train_images if split == "training" else image.test_images
    if source.images > count:
        raise InputError(f"{asked} takes {source.images} {split} images, but the split has {count}; lower it")
    if source.prior is not None and not others:
        return  # no norm takes statistics of so few images alone
    size = min(source.images, spec.batch)
    if size < spec.batch:
        try:
            models.check(spec.model_copy(update={"batch": size, "workers": 1}), image)
        except NormError as error:
            raise InputError(f"{asked}: {error}") from None
