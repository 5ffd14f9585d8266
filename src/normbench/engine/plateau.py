"""`schedule=plateau`: a lane's learning rate falls when its validation loss no longer falls.

Every `schedule.every` steps after warm-up the validation split is evaluated with running statistics. A loss
counts as smaller if it is below (1 − THRESHOLD) · (the smallest one so far). After more than
`schedule.patience` checks in a row without a smaller loss, the learning rate is multiplied by
`schedule.gamma`. It never falls below `schedule.minimum` of the run's own. A loss that is not a finite number
does not count as smaller.

Every check is a point of the run's curve, and the decisions follow from the curve alone. So a checkpoint,
which holds the curve, needs no further state. Validation decides about training here, and running statistics
decide about validation: runs with different norm momenta are different trainings and get lanes of their own.

NUMERICS: a loss decides, so a difference in rounding between a stack and a lone run can move a decision in
rare cases. In float64 they agree.

Reference:  he2016a — Deep Residual Learning, CVPR 2016, §3.4 (÷ 10 when the error plateaus); the rule is that
            of torch.optim.lr_scheduler.ReduceLROnPlateau in relative mode, without cooldown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from normbench.engine.evaluate import Metrics
from normbench.spec import ScheduleSpec

#: A loss must be smaller by this share to count as smaller, as in torch.
THRESHOLD = 1e-4


class Plateau:
    """Factors of the learning rates of some runs. For other schedules there are no checks.

    Args:
        schedule: of the runs.
        steps:    length of the runs.
        runs:     how many.

    Attributes:
        checks:  the numbers of finished steps at which the validation split is evaluated.
        factors: of the learning rate of each run now.
    """

    def __init__(self, schedule: ScheduleSpec, steps: int, runs: int) -> None:
        self.checks = check_steps(schedule, steps)
        self.factors = [1.0] * runs
        self._schedule = schedule
        self._best = [math.inf] * runs
        self._waited = [0] * runs

    def replay(self, histories: Sequence[Sequence[Metrics]]) -> None:
        """Take the decisions of the points that the curves have already."""
        for run, history in enumerate(histories):
            for point in history:
                self._see(run, point)

    def see(self, points: Sequence[Metrics]) -> None:
        """Decide about each run by its newest point."""
        for run, point in enumerate(points):
            self._see(run, point)

    def _see(self, run: int, point: Metrics) -> None:
        if point["step"] not in self.checks:
            return
        loss = point["valid_loss"]
        if loss is not None and loss < self._best[run] * (1 - THRESHOLD):
            self._best[run], self._waited[run] = loss, 0
            return
        self._waited[run] += 1
        if self._waited[run] > (self._schedule.patience or 0):
            fallen = self.factors[run] * (self._schedule.gamma or 1.0)
            self.factors[run] = max(fallen, self._schedule.minimum or 0.0)
            self._waited[run] = 0


def check_steps(schedule: ScheduleSpec, steps: int) -> frozenset[int]:
    """The numbers of finished steps at which a schedule looks at the validation split.

    >>> schedule = ScheduleSpec(name="plateau", warmup=0.2, milestones=None, gamma=0.1, every=10)
    >>> sorted(check_steps(schedule, 50))
    [20, 30, 40]
    """
    if schedule.every is None:
        return frozenset()
    warm = round(schedule.warmup * steps)
    return frozenset(step for step in range(schedule.every, steps, schedule.every) if step > warm)
