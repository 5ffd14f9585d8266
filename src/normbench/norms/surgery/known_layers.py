"""Which classes of torch, torchvision, timm and detectron2 are known, and whether a layer is still one.

A subclass may compute anything. A layer counts as one of a known class only if nothing that the class defines
is overridden: neither by a subclass, nor on the instance.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass

from torch import nn
from torch.nn.utils import parametrize


@dataclass(frozen=True)
class Known:
    """What a known norm class computes.

    Attributes:
        key:    the method of this package that computes the same.
        axis:   channel axis of its input: 1, or -1 for the last.
        tail:   whether it calls its children `drop` and `act` on the normalized output.
        frozen: whether γ and β are buffers, and statistics never move.
    """

    key: str
    axis: int = 1
    tail: bool = False
    frozen: bool = False


#: Package → class name → what it computes. Names, since timm and detectron2 need not be installed.
KNOWN: dict[str, dict[str, Known]] = {
    "torch.nn.modules": {
        **{name: Known("bn") for name in ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "SyncBatchNorm")},
        **{name: Known("in") for name in ("InstanceNorm1d", "InstanceNorm2d", "InstanceNorm3d")},
        "GroupNorm": Known("gn"),
        "LayerNorm": Known("ln_c", -1),
        "RMSNorm": Known("rms", -1),
    },
    "torchvision": {"LayerNorm2d": Known("ln_c"), "FrozenBatchNorm2d": Known("bn", frozen=True)},
    "detectron2": {"FrozenBatchNorm2d": Known("bn", frozen=True)},
    "timm": {
        **{name: Known("bn", tail=True) for name in ("BatchNormAct2d", "SyncBatchNormAct")},
        "FrozenBatchNormAct2d": Known("bn", tail=True, frozen=True),
        **{name: Known("gn") for name in ("GroupNorm", "GroupNorm1")},
        **{name: Known("gn", tail=True) for name in ("GroupNormAct", "GroupNorm1Act")},
        **{
            f"{name}{act}{maps}{wide}": Known(key, 1 if maps else -1, tail=bool(act))
            for name, key in (("LayerNorm", "ln_c"), ("RmsNorm", "rms"))
            for act in ("", "Act")
            for maps in ("", "2d")
            for wide in ("", "Fp32")
        },
        "LayerNormExp2d": Known("ln_c"),
    },
}
#: What torch's norms and their users take for granted on an instance.
DATA = (
    "weight", "bias", "running_mean", "running_var", "num_batches_tracked", "eps", "momentum", "affine",
    "track_running_stats", "num_features", "num_groups", "num_channels", "normalized_shape",
    "elementwise_affine", "training", "drop", "act",
)  # fmt: skip
#: What a subclass may define without changing what its layers compute.
HARMLESS = {
    "__init__", "__module__", "__doc__", "__qualname__", "__annotations__", "__annotate__",
    "__annotate_func__", "__annotations_cache__", "__constants__", "__dict__", "__weakref__",
    "__firstlineno__",
    "__static_attributes__", "__parameters__", "__orig_bases__", "__type_params__", "__abstractmethods__",
    "_abc_impl", "__repr__", "__str__", "__hash__", "__slots__", "__jit_unused_properties__",
    "__jit_ignored_attributes__", "extra_repr", "_get_name", "reset_parameters", "reset_running_stats",
    "_version", "dump_patches", "_is_hf_initialized",
}  # fmt: skip
#: Class names of norms: a word like LayerNorm, or an abbreviation in capitals.
NORM_NAME = re.compile(r"(?i:norm(?!al(?!ization)))|(?<![A-Z])(?:BN|GN|LN|FRN|GRN|LRN|ABN)(?![a-z])|Abn\b")


def known_class(kind: type[nn.Module]) -> tuple[type[nn.Module], Known] | None:
    """The first known class among a class and its bases, and what it computes."""
    for base in kind.__mro__:
        for package, classes in KNOWN.items():
            if base.__name__ in classes and f"{base.__module__}.".startswith(f"{package}."):
                return base, classes[base.__name__]
    return None


def departure(layer: nn.Module, known: type[nn.Module]) -> str | None:
    """Why a layer may compute something else than its known class does; None if it computes the same."""
    if parametrize.is_parametrized(layer):
        names = list(layer.get_submodule("parametrizations")._modules)
        return f"its {' and '.join(names)} {'is' if len(names) == 1 else 'are'} parametrized"
    for base in type(layer).__mro__:
        for name in () if base in known.__mro__ else vars(base):
            if name not in HARMLESS and (hasattr(known, name) or _shadows(base, name)):
                return f"{base.__name__} has its own {name}, which may compute something else"
    for name in ("forward", "_check_input_dim"):
        if not _original(known, name):
            return f"{known.__name__}.{name} was replaced"
    return replaced_on_instance(layer)


def replaced_on_instance(layer: nn.Module) -> str | None:
    """Which method of a layer was replaced on the instance, as a reason; None if none was."""
    for name in vars(layer):
        if callable(inspect.getattr_static(type(layer), name, None)):
            return f"its {name} was replaced on the instance"
    return None


def _shadows(base: type, name: str) -> bool:
    """Whether a class attribute hides data of the instance: any hides a tensor, a property hides the rest."""
    return name in DATA[:5] or (name in DATA and hasattr(vars(base)[name], "__get__"))


def _original(known: type[nn.Module], name: str) -> bool:
    """Whether a class still has the method that its library wrote."""
    method = getattr(known, name, None)
    if method is None:
        return True
    written = {f"{base.__qualname__}.{name}" for base in known.__mro__}
    package = known.__module__.partition(".")[0]
    from_library = str(getattr(method, "__module__", "")).partition(".")[0] in (package, "torch")
    return from_library and not hasattr(method, "__wrapped__") and method.__qualname__ in written
