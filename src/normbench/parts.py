"""Parts: norms, models, data sets and diagnostics of a user's own, registered by plugins.

A part stands beside the packaged choices of its group, with the knobs that a packaged choice has in its YAML.
The package `normbench.plugins` fills this registry; the rooms of norms, models, data and diagnostics read it.
This module also knows how models of other libraries are named (`model=torchvision:resnet50`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from normbench.errors import InputError

Group = Literal["norm", "model", "data", "diagnostic"]
#: Libraries with models that are named LIBRARY:NAME.
LIBRARIES = ("torchvision", "timm")
#: Knobs that all models have in their YAML; null: the choice does not have this knob.
MODEL_KNOBS = (
    "activation", "hidden", "width", "pool", "stem", "shortcut", "dropout", "zero_last", "bias",
)  # fmt: skip


@dataclass(frozen=True)
class Plugin:
    """A module or package of the user's that registers parts.

    Attributes:
        name:    of the module or the file.
        version: of the installed package, or `__version__` of the module; None if there is neither.
        digest:  of its source, sixteen hex digits.
        target:  what loads it in another process: a module, or the path of a file.
    """

    name: str
    version: str | None
    digest: str
    target: str


@dataclass(frozen=True)
class Part:
    """A registered part.

    Attributes:
        group:  "norm", "model", "data" or "diagnostic".
        name:   by which a run chooses it.
        made:   the class or the function that makes it.
        plugin: that registered it.
        knobs:  as a packaged choice has them in its YAML, with `name`; empty for a diagnostic.
        facts:  what the room of the part needs beside the knobs.
        alone:  its runs train one per stack.
    """

    group: Group
    name: str
    made: Any
    plugin: Plugin
    knobs: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    alone: bool = False

    @property
    def origin(self) -> tuple[str, str]:
        """Module and name of the definition. The same definition may be registered again."""
        return self.made.__module__, self.made.__qualname__


_parts: dict[tuple[str, str], Part] = {}


def add(part: Part, packaged: Iterable[str]) -> None:
    """Register a part.

    Args:
        packaged: the packaged names of its group.

    Raises:
        InputError: the name is no name, or it is taken.
    """
    if not isinstance(part.name, str) or not re.fullmatch(r"[a-z_][a-z0-9_]*", part.name):
        raise InputError(
            f"the name of a {part.group} must be lower-case letters, digits and _; got {part.name!r}"
        )
    known = _parts.get((part.group, part.name))
    taken = "normbench" if part.name in packaged else None
    if known is not None and known.origin != part.origin:
        taken = f"plugin {known.plugin.name}"
    if taken is not None:
        raise InputError(
            f"{part.group} {part.name} of plugin {part.plugin.name} exists already in {taken}; choose "
            "another name"
        )
    _parts[part.group, part.name] = part


def find(group: str, name: str) -> Part | None:
    """The part of that name; None if no plugin has it."""
    return _parts.get((group, name))


def names(group: str) -> list[str]:
    """The names of the parts of a group, sorted."""
    return sorted(name for of, name in _parts if of == group)


def everything() -> list[Part]:
    """All registered parts."""
    return list(_parts.values())


def forget(group: str, name: str) -> None:
    """Remove a part, if it is there."""
    _parts.pop((group, name), None)


def library_of(model: str) -> str | None:
    """The library of a model; None for a model of normbench or of a plugin.

    >>> library_of("torchvision:resnet50"), library_of("resnet50")
    ('torchvision', None)
    """
    library, colon, name = model.partition(":")
    return library if colon and library in LIBRARIES and re.fullmatch(r"[\w.]+", name) else None


def knobs(group: str, name: str) -> Mapping[str, Any] | None:
    """The knobs of a part or of a library's model, as the YAML of a packaged choice has them; None if it is
    neither.
    """
    if (part := find(group, name)) is not None:
        return part.knobs
    if group == "model" and library_of(name):
        return {"name": name, **dict.fromkeys(MODEL_KNOBS)}
    return None


def trains_alone(model: str) -> bool:
    """Whether runs of a model train one per stack: it is an ordinary module, without lanes."""
    part = find("model", model)
    return part.alone if part is not None else library_of(model) is not None


def of_run(tree: Mapping[str, Any]) -> dict[str, Part]:
    """The parts that a run uses, by group; diagnostics by `diagnostic.<name>`.

    Args:
        tree: the specification of the run as plain containers.
    """
    found = {
        group: part
        for group in ("model", "norm", "data")
        if (part := find(group, str(tree[group]["name"]))) is not None
    }
    for asked in tree.get("diagnostics") or ():
        name = re.split("[@:]", str(asked))[0]
        if (part := find("diagnostic", name)) is not None:
            found[f"diagnostic.{name}"] = part
    return found


def remarks(trees: Iterable[Mapping[str, Any]]) -> list[str]:
    """What to say once about how parts of runs train: models without lanes, norms without lanes."""
    found: dict[str, None] = {}
    for tree in trees:
        model, norm = str(tree["model"]["name"]), str(tree["norm"]["name"])
        if trains_alone(model):
            found[f"model {model} is an ordinary module without lanes: its runs train one per stack"] = None
        elif (part := find("norm", norm)) is not None and not part.facts["stacks"]:
            found[f"norm {norm} takes no lanes: the lanes of a stack are copies of it side by side"] = None
    return list(found)


def digests(tree: Mapping[str, Any]) -> dict[str, str]:
    """The sources of the parts that change the final state of a run, by group. Diagnostics do not."""
    return {group: part.plugin.digest for group, part in of_run(tree).items() if "." not in group}


def check_loaded(signature: str, tree: Mapping[str, Any], kept: Mapping[str, Any]) -> None:
    """Refuse to build a recorded run whose plugins are not loaded, or have another source now.

    Args:
        tree: the specification of the run; it has the sources of then.
        kept: the provenance of its record, which names the plugins.

    Raises:
        InputError: names the plugin and the remedy.
    """
    for group, digest in (tree.get("plugins") or {}).items():
        name = (kept.get("plugins") or {}).get(group, {}).get("plugin", f"of its {group}")
        part = find(group, str(tree[group]["name"]))
        if part is None:
            raise InputError(f"run {signature} needs its plugin; add --plugin {name}, or load it from Python")
        if part.plugin.digest != digest:
            raise InputError(
                f"plugin {name} has changed since run {signature} was trained, so its network may compute "
                "something else now; restore the source of then, or train the run again"
            )


def provenance(tree: Mapping[str, Any]) -> dict[str, Any]:
    """What a record keeps of the plugins of a run; empty if it uses none."""
    told = {
        group: {"plugin": part.plugin.name, "version": part.plugin.version, "hash": part.plugin.digest}
        for group, part in of_run(tree).items()
    }
    return {"plugins": told} if told else {}
