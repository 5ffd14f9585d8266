"""Parts of your own: norms, models, data sets and diagnostics, without a change in this package.

    # my_norm.py
    from normbench import plugins
    from normbench.norms import Norm

    @plugins.norm("mine")
    class Mine(Norm):
        def __init__(self, channels, lanes=1, *, eps=1e-5, affine=True, alpha=0.5): ...

`normbench train --plugin my_norm.py norm=mine norm.args.alpha=0.3` then trains it. Instead of `--plugin`, the
environment variable NORMBENCH_PLUGINS may list modules or files, separated by commas, and an installed
package may name its module in the entry point group `normbench.plugins`.

Importing this module does not import torch. The decorators import what they need when they are used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from normbench.plugins.loading import load

if TYPE_CHECKING:
    from normbench.diagnostics import Source

    T = TypeVar("T", bound=Callable[..., Any])

__all__ = ["data", "diagnostic", "load", "model", "norm", "stacked_model"]


def norm(
    key: str,
    *,
    family: str = "own",
    reduces: str = "",
    reference: str = "",
    batch_statistics: bool = False,
    absorbs_bias: bool = False,
    eval_differs: bool = False,
    exact_gradient: bool = True,
    activates: bool = False,
    banks: bool = False,
    neutral: Mapping[str, Any] | None = None,
    numerics: int = 1,
) -> Callable[[T], T]:
    """Class decorator: register a norm layer, so that `norm=KEY` chooses it.

    The constructor gives the knobs and their defaults: `momentum`, `eps` and `affine` if it has them, and
    every other argument as `norm.args.<name>`. It gets `batch`, `total`, `seeds` and `activated` from the run
    if it takes them.

    A class with the arguments `channels` and `lanes` must derive from `normbench.norms.Norm`. Its runs train
    as lanes of a stack. Any other `nn.Module` whose constructor takes `channels` is trained as K copies side
    by side, see `norms.side_by_side`. `normbench check-norm` checks what is declared here.

    Args:
        key:      its name on the command line.
        banks:    training never reads the running statistics, so runs that differ only in momentum share a
                  training. The class must then derive from `normbench.norms.running.RunningNorm`.
        neutral:  values by path, such as {"args.alpha": 0.5}, at which a knob leaves the signature.
        numerics: version of the numbers.

    The other arguments are those of `normbench.norms.Entry`.

    Raises:
        InputError: the key is taken, or the constructor does not fit.
    """
    facts = {
        "family": family, "reduces": reduces, "reference": reference, "batch_statistics": batch_statistics,
        "absorbs_bias": absorbs_bias, "eval_differs": eval_differs, "exact_gradient": exact_gradient,
        "activates": activates,
    }  # fmt: skip
    declared = {"banks": banks, "neutral": dict(neutral or {}), "numerics": numerics}

    def enter(made: T) -> T:
        from normbench.plugins.own_norms import register

        register(key, made, facts, declared)
        return made

    return enter


def model(name: str, *, size: int | None = None, numerics: int = 1) -> Callable[[T], T]:
    """Decorator: register a function that builds an ordinary network, so that `model=NAME` chooses it.

    The function takes one argument, the shape of the images, and returns a module that maps
    (N, shape.channels, shape.size, shape.size) to logits (N, shape.classes). Its norm layers are replaced by
    the run's norm. If it has none, a norm follows every convolution. Its runs train one per stack.

    Args:
        size:     side of the images in pixels that it needs; None: any.
        numerics: version of the numbers.

    Raises:
        InputError: the name is taken.
    """

    def enter(made: T) -> T:
        from normbench.plugins.own_models import register_ordinary

        register_ordinary(name, made, size, numerics)
        return made

    return enter


def stacked_model(
    name: str,
    *,
    size: int | None = None,
    placements: Sequence[str] = ("conv_norm_act", "conv_act_norm"),
    numerics: int = 1,
    **knobs: Any,
) -> Callable[[T], T]:
    """Decorator: register a function that builds a network of K lanes, so that `model=NAME` chooses it.

    The function takes a `normbench.models.builder.Builder` and returns the module, as those in
    `normbench/models/` do. Its runs train as lanes of a stack.

    Args:
        size:       side of the images in pixels that it needs; None: any.
        placements: those that it has.
        numerics:   version of the numbers.
        knobs:      defaults of the knobs under `model`: activation (relu), dropout (0), bias (auto), width,
                    hidden, pool, stem, shortcut, zero_last. A knob that is not given does not exist for it.

    Raises:
        InputError: the name is taken, or a knob or a placement is unknown.
    """

    def enter(made: T) -> T:
        from normbench.plugins.own_models import register_stacked

        register_stacked(name, made, size, tuple(placements), numerics, knobs)
        return made

    return enter


def data(name: str, *, flip: bool = False, crop: int = 0, numerics: int = 1) -> Callable[[T], T]:
    """Decorator: register a function that reads a data set, so that `data=NAME` chooses it.

    The function returns train_images, train_labels, test_images, test_labels: uint8 images (n, size, size) or
    (n, channels, size, size), and whole labels from 0. If it takes `path`, it gets `data.path`. The images
    and labels are hashed into the signature of a run.

    Args:
        flip:     default of `data.flip`.
        crop:     default of `data.crop`, in pixels.
        numerics: version of the numbers.

    Raises:
        InputError: the name is taken.
    """

    def enter(made: T) -> T:
        from normbench.plugins.own_data import register

        register(name, made, flip, crop, numerics)
        return made

    return enter


def diagnostic(name: str, *, quantities: Sequence[str], follows_from: Source = "state") -> Callable[[T], T]:
    """Class decorator: register a probe, so that `diagnostics=[NAME]` reads it.

    The class derives from one of `normbench.engine.probes.protocol`. A diagnostic does not change the final
    state of a run, so its source is not part of the signature. Give it another name if its meaning changes.

    Args:
        quantities:   names of its numbers; quantity q is the metric NAME/q.
        follows_from: "state", "curve" or "training", see `normbench.diagnostics`.

    Raises:
        InputError: the name is taken, or the class is no probe.
    """

    def enter(made: T) -> T:
        from normbench.plugins.own_diagnostics import register

        register(name, made, tuple(quantities), follows_from)
        return made

    return enter
