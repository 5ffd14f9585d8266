"""Training curves: at which steps they have points, and the metrics of a run that has ended."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from normbench.engine.evaluate import Metrics, finite
from normbench.spec import EvalSpec

#: Points of a curve, besides those at evaluations and at the start of the last epoch.
POINTS = 50


def curve_steps(wanted: EvalSpec, steps: int, per_epoch: int) -> tuple[set[int], set[int]]:
    """The numbers of finished steps at which the curve has a point, and at which the run is evaluated.

    Args:
        wanted:    `every`, the steps between evaluations.
        steps:     length of the run.
        per_epoch: steps per epoch.
    """
    every = wanted.every or steps
    evaluations = {*range(every, steps, every), steps}
    curve = {-(-steps * i // POINTS) for i in range(1, POINTS + 1)}
    return curve | evaluations | {max(steps - per_epoch, 0)} - {0}, evaluations


def diverged_at(
    history: Sequence[Metrics], loss_at: int | None, *, steps: int, finite_parameters: bool
) -> int | None:
    """The first step at which a run was no longer finite; None if it stayed finite.

    No training loss follows the last update. So a run has also diverged, at step `steps`, if its parameters
    or its test loss are not finite after the last update.

    Args:
        history:           the points of the curve.
        loss_at:           the first step whose training loss was not finite, None if there is none.
        steps:             length of the run.
        finite_parameters: all parameters are finite at the end.
    """
    if loss_at is not None:
        return loss_at
    last = history[-1]
    return None if finite_parameters and last.get("test_loss", 0.0) is not None else steps


def summary(wanted: EvalSpec, history: Sequence[Metrics], last_epoch: int, *, diverged: bool) -> Metrics:
    """The metrics of a run: training metrics over the last epoch, test and validation metrics
    of the last evaluation.

    Args:
        wanted:     `targets`, the test errors of `steps_to`.
        history:    the points of the curve. A point's training metrics cover the steps since the point
                    before.
        last_epoch: steps finished when the last epoch began.
        diverged:   the run diverged. All its metrics are None, except targets that it reached before.
    """
    at = [int(point["step"] or 0) for point in history]
    shares = [step - before if step > last_epoch else 0 for before, step in zip([0, *at], at, strict=False)]
    metrics: Metrics = {}
    for name in ("train_loss", "train_error"):
        values = [point[name] for point in history]
        metrics[name] = None if diverged else finite(np.average(np.array(values, float), weights=shares))
    tests = {name: value for name, value in history[-1].items() if name.startswith(("test_", "valid_"))}
    metrics |= dict.fromkeys(tests) if diverged else tests
    return metrics | steps_to(wanted.targets, history)


def steps_to(targets: Sequence[float], history: Sequence[Metrics]) -> Metrics:
    """The first evaluated step whose test error is at most a target; None if no step reached it."""
    evaluated = [(p["step"], p["test_error"]) for p in history if p.get("test_error") is not None]
    return {
        f"steps_to_{target:g}": next((step for step, error in evaluated if error <= target), None)  # type: ignore[operator]
        for target in targets
    }
