"""Fluctuation of the validation error over a window of evaluations (name: fluctuation)."""

from __future__ import annotations

import numpy as np

from normbench.engine.probes.protocol import Point, Probe, Reading

#: Evaluations in the window, unless the request says another number.
WINDOW = 5


class Fluctuation(Probe):
    """Standard deviation of an error over the last k evaluations of a run, that of this point included.

        √( Σ (e_i − ē)² / (k − 1) )          for test_error, and for valid_error if the run has one

    None as long as there are fewer than k evaluations. `fluctuation@k` sets k; the default is 5.

    Source:     goyal2017, figure 4 (fluctuating validation curves); papers compare the curves by eye, the
                window is ours.
    Cost:       none; it follows from the curve.
    """

    per_bank = True

    def read(self, point: Point, bank: int) -> Reading:
        window = int(self.argument or WINDOW)
        curves = [point.curves.get((lane, bank), ()) for lane in range(point.lanes)]
        return Reading(
            {
                name: [deviation([p[name] for p in curve if name in p][-window:], window) for curve in curves]
                for name in ("test_error", "valid_error")
            }
        )


def deviation(values: list[float | None], window: int) -> float | None:
    """Sample standard deviation; None if there are fewer than `window` values or one of them is None."""
    if len(values) < window or None in values:
        return None
    return float(np.std(np.array(values, float), ddof=1))
