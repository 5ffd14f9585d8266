"""What `convert` and `fold` report about each norm layer."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """What was done with one layer of a model.

    >>> print(Change("bn1", "BatchNorm2d", "gn", kept=("γ", "β")))
    bn1: BatchNorm2d → gn, kept γ, β
    >>> print(Change("head.norm", "LayerNorm", None, note="it normalizes over several axes"))
    head.norm: LayerNorm left alone: it normalizes over several axes

    Attributes:
        name: the layer's path in the model.
        old:  class of the old layer.
        new:  what replaced it; None if it was left alone.
        kept: what the new layer took over from the old one.
        note: the reason it was left alone, or what else was done.
    """

    name: str
    old: str
    new: str | None
    kept: tuple[str, ...] = ()
    note: str = ""

    def __str__(self) -> str:
        if self.new is None:
            return f"{self.name}: {self.old} left alone: {self.note}"
        kept = f", kept {', '.join(self.kept)}" if self.kept else ""
        return f"{self.name}: {self.old} → {self.new}{kept}" + (f"; {self.note}" if self.note else "")
