"""The curve of one run as points of a small drawing. A plain polyline: thousands of runs have one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from normbench.record import Metrics

WIDTH, HEIGHT = 300, 110
#: Points of a polyline at most.
_POINTS = 120
#: A drawing per quantity: of the training images, then of the test images.
_PAIRS = {"loss": ("train_loss", "test_loss"), "error": ("train_error", "test_error")}


@dataclass(frozen=True)
class LineView:
    """One metric. `points` is that of an SVG polyline; `last` its last value as text."""

    name: str
    points: str
    last: str
    single: tuple[float, float] | None = None


@dataclass(frozen=True)
class CurveView:
    """A drawing: the values at its edges as text, and its lines."""

    title: str
    low: str
    high: str
    first: str
    last: str
    lines: tuple[LineView, ...]

    @property
    def text(self) -> str:
        """The drawing in words."""
        ends = ", ".join(f"{line.name} ends at {line.last}" for line in self.lines)
        return f"{self.title} from step {self.first} to {self.last}: {ends}"


def curves(history: Sequence[Metrics]) -> list[CurveView]:
    """The drawings of a curve; none if it has no points."""
    return [found for title, names in _PAIRS.items() if (found := _curve(title, names, history)) is not None]


def _curve(title: str, names: Sequence[str], history: Sequence[Metrics]) -> CurveView | None:
    found: dict[str, list[tuple[float, float]]] = {}
    for name in names:
        pairs = ((point.get("step"), point.get(name)) for point in history)
        if points := [(float(x), float(y)) for x, y in pairs if x is not None and y is not None]:
            found[name] = points
    every = [point for points in found.values() for point in points]
    if len(every) < 2:
        return None
    left, right = min(x for x, _ in every), max(x for x, _ in every)
    low, high = min(y for _, y in every), max(y for _, y in every)
    across, up = (right - left) or 1.0, (high - low) or 1.0
    lines = []
    for name, points in found.items():
        step = -(-len(points) // _POINTS)
        kept = points[::step] if (len(points) - 1) % step == 0 else [*points[::step], points[-1]]
        drawn = [(WIDTH * (x - left) / across, HEIGHT - HEIGHT * (y - low) / up) for x, y in kept]
        text = " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn)
        lines.append(LineView(name, text, f"{points[-1][1]:.4g}", drawn[0] if len(drawn) == 1 else None))
    return CurveView(title, f"{low:.3g}", f"{high:.3g}", f"{left:g}", f"{right:g}", tuple(lines))
