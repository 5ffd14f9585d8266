"""What is counted while a network classifies images: per lane, on the device, without waiting for it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from normbench.conditions import TABLES, quantity
from normbench.engine.quality import BINS, calibration_error, per_class_error, reliability, temperature
from normbench.record import Metrics, Table

#: What is measured of a lane under one condition: numbers, and tables among them.
Measured = dict[str, float | Table | None]


class Tally:
    """Loss, errors and what `metrics` names, over all images that were classified.

    Args:
        lanes:   K.
        classes: of the data set.
        device:  where the sums live.
        metrics: names of `normbench.conditions`.
    """

    def __init__(self, lanes: int, classes: int, device: torch.device, metrics: Sequence[str] = ()) -> None:
        self.metrics, self._seen = tuple(metrics), 0
        self._losses, self._errors = torch.zeros(2, lanes, dtype=torch.float64, device=device)
        self._bins = self._confusion = None
        if {"ece", "reliability"} & {*metrics}:
            self._bins = torch.zeros(3, lanes, BINS, dtype=torch.float64, device=device)
        if {"confusion", "class_error"} & {*metrics}:
            self._confusion = torch.zeros(lanes, classes, classes, dtype=torch.float64, device=device)
        self._kept: list[tuple[Tensor, Tensor]] | None = [] if "temperature" in metrics else None

    def add(self, logits: Tensor, y: Tensor) -> None:
        """Count images: logits (n, K, classes), labels (n,)."""
        labels = y[:, None].expand(-1, logits.shape[1])
        self._losses += lane_losses(logits, labels, 0.0).sum(0)
        self._errors += (logits.argmax(2) != labels).sum(0)
        self._seen += len(y)
        if self._bins is not None:
            self._bins += reliability(logits, labels)
        if self._confusion is not None:
            truth, guess = (F.one_hot(t, logits.shape[2]).double() for t in (y, logits.argmax(2)))
            self._confusion += torch.einsum("nt,nkg->ktg", truth, guess)
        if self._kept is not None:
            self._kept.append((logits, y))

    def read(self) -> list[Measured]:
        """test_loss, test_error and the others of every lane."""
        losses, errors = self._losses / self._seen, self._errors / self._seen
        by_name: dict[str, list[float | Table | None]] = {
            "test_loss": [*map(finite, losses.tolist())], "test_error": errors.tolist(),
        }  # fmt: skip
        for metric in self.metrics:
            by_name[f"test_{metric}"] = self._read(metric, by_name)
        return [dict(zip(by_name, values, strict=True)) for values in zip(*by_name.values(), strict=True)]

    def _read(self, metric: str, known: dict[str, list[float | Table | None]]) -> list[float | Table | None]:
        if metric == "nll":
            return known["test_loss"]
        if metric == "temperature":
            assert self._kept is not None
            logits, labels = (torch.cat(parts) for parts in zip(*self._kept, strict=True))
            return [*temperature(logits, labels)]
        if metric in ("ece", "reliability"):
            assert self._bins is not None
            if metric == "ece":
                return [*map(finite, calibration_error(self._bins).tolist())]
            count, confidence, hits = self._bins
            rows = torch.stack([count, confidence / count, hits / count], 2)
            return [table(lane) for lane in rows]
        assert self._confusion is not None
        wanted = self._confusion if metric == "confusion" else per_class_error(self._confusion)
        return [table(lane) for lane in wanted]


def nothing(metrics: Sequence[str]) -> Measured:
    """What is measured of a lane if no image could be classified."""
    return dict.fromkeys(["test_loss", "test_error", *(f"test_{metric}" for metric in metrics)])


def numbers(measured: Measured) -> Metrics:
    """The metrics among what was measured."""
    return {name: value for name, value in measured.items() if not is_table(name)}  # type: ignore[misc]


def tables(measured: Measured) -> dict[str, Table | None]:
    """The tables among what was measured."""
    return {name: value for name, value in measured.items() if is_table(name)}  # type: ignore[misc]


def is_table(name: str) -> bool:
    """Whether a name of `normbench.conditions` is that of a table."""
    return quantity(name).partition("_")[2] in TABLES


def table(values: Tensor) -> Table:
    """Nested lists of numbers; None in place of those that are not finite."""
    nested: Table = [table(part) for part in values] if values.dim() > 1 else [*map(finite, values.tolist())]
    return nested


def finite(number: float) -> float | None:
    """The number, or None if it is not finite."""
    return number if math.isfinite(number) else None


def lane_losses(logits: Tensor, labels: Tensor, label_smoothing: float) -> Tensor:
    """Cross-entropy, in fp32 at least: logits (N, K, classes), labels (N, K) → (N, K)."""
    wide = logits if logits.dtype in (torch.float32, torch.float64) else logits.float()
    losses = F.cross_entropy(
        wide.flatten(0, 1), labels.flatten(), reduction="none", label_smoothing=label_smoothing
    )
    return losses.view(labels.shape)
