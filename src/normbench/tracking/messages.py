"""The lines that report a sweep, the same on a terminal and in a log file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from normbench.conditions import quantity
from normbench.labels import field, label, settings
from normbench.phrases import counted
from normbench.record import COMPLETE, DIVERGED, FAILED, Record
from normbench.tracking.progress import Group, Progress, Stack

#: Fields that a title always shows.
_ALWAYS_SHOWN = ("model", "norm", "weight", "batch", "workers", "total")


def opening(progress: Progress) -> str:
    """The first line: how many runs were asked for and how many will train.

    >>> from normbench.events import SweepStarted
    >>> opening(Progress(SweepStarted(18, 6, 4, 1200, evaluations=2)))
    '18 runs: 6 finished before, 2 to evaluate without training, 10 to train in 4 stacks'
    """
    sweep = progress.sweep
    asked = counted(sweep.runs, "run")
    if not progress.to_train and not sweep.evaluations:
        return f"{asked}: all finished before, nothing to train"
    parts = [f"{sweep.finished} finished before"]
    if sweep.evaluations:
        parts.append(f"{sweep.evaluations} to evaluate without training")
    if progress.to_train:
        parts.append(f"{progress.to_train} to train in {counted(sweep.stacks, 'stack')}")
    return f"{asked}: {', '.join(parts)}"


def state(progress: Progress, now: float) -> str:
    """Progress, rate and time left in one line."""
    total = progress.sweep.steps
    share = progress.done / total if total else 1.0
    parts = [f"{share:.0%}", f"{progress.done:,} of {total:,} run-steps", pace(progress, now)]
    return " · ".join([*parts, f"{counted(len(progress.stacks), 'stack')} training"])


def pace(progress: Progress, now: float) -> str:
    """Run-steps per second, and the time left if it is known."""
    left, rate = progress.left_s(now), progress.rate(now)
    return (f"{rate:,.0f}/s" if rate >= 10 or not rate else f"{rate:.2g}/s") + (
        "" if left is None else f" · {duration(left)} left"
    )


def result(group: Group, stack: Stack, progress: Progress, now: float) -> str:
    """The line for one group of a stack that has ended. A mean is taken over seeds alone."""
    parts = [f"{progress.ended}/{progress.to_train} {group_title(group, progress)}"]
    if group.test_error is not None:
        parts.append(f"test error {percent(group.test_error)}")
    parts += [f"{group.statuses[s]} {s}" for s in (DIVERGED, FAILED) if group.statuses[s]]
    return " · ".join([*parts, duration(now - stack.started)])


def evaluated(record: Record, added: Sequence[str], progress: Progress) -> str:
    """The line for a finished run that got more metrics without training."""
    title = describe(record.spec, (*progress.varying, "seed"))
    return f"evaluated {title} · " + " · ".join(metric(name, record.metrics.get(name)) for name in added)


def closing(progress: Progress, now: float) -> str:
    """The last line: how many runs ended, in which time, with which status."""
    counts = [f"{progress.statuses[s]} {s}" for s in (COMPLETE, DIVERGED, FAILED) if progress.statuses[s]]
    took = duration(now - progress.started)
    return (
        f"{progress.ended} of {counted(progress.to_train, 'run')} ended in {took}"
        + (": " if counts else "")
        + ", ".join(counts)
        + (f"; {progress.elsewhere} trained by other processes" if progress.elsewhere else "")
    )


def split(stack: Stack, progress: Progress, reason: str, then: str) -> str:
    """Why a stack was split, and what becomes of it. Fields in which its runs differ are left out."""
    common = [key for key in progress.varying if len({label(field(spec, key)) for spec in stack.specs}) == 1]
    title = f"{describe(stack.specs[0], common)} · {counted(stack.runs, 'run')}"
    return f"{title}: {reason}; {then}"


def group_title(group: Group, progress: Progress) -> str:
    """A group in a few words: what it trains, what sets it apart in the sweep, and its seeds."""
    return f"{describe(group.spec, progress.varying)} · {seeds(group.seeds)}"


def describe(spec: Mapping[str, Any], keys: Sequence[str]) -> str:
    """Model, norm and batch, and the other fields among `keys` that the run has.

    >>> spec = {"model": {"name": "lenet5"}, "norm": {"name": "bn"}, "batch": 2, "optim": {"lr": 0.1}}
    >>> describe(spec, ["optim.lr", "batch"])
    'lenet5 bn batch 2 optim.lr=0.1'
    """
    weight = spec.get("weight", {}).get("name", "none")
    norm = spec["norm"]["name"] + ("" if weight == "none" else f"+{weight}")
    workers = spec.get("workers", 1)
    batch = f"batch {spec['batch']}" + (f" × {workers} workers" if workers > 1 else "")
    others = settings(spec, [key for key in keys if key not in _ALWAYS_SHOWN])
    return " ".join(filter(None, (spec["model"]["name"], norm, batch, others)))


def seeds(numbers: Sequence[int]) -> str:
    """The seeds of a group.

    >>> seeds([3]), seeds([0, 1, 2, 3]), seeds([5, 0, 2]), seeds([0, 2, 4, 6, 8])
    ('seed 3', '4 seeds (0–3)', '3 seeds (0, 2, 5)', '5 seeds')
    """
    if len(numbers) == 1:
        return f"seed {numbers[0]}"
    low, high = min(numbers), max(numbers)
    if sorted(numbers) == list(range(low, high + 1)):
        return f"{len(numbers)} seeds ({low}–{high})"
    listed = f" ({', '.join(map(str, sorted(numbers)))})" if len(numbers) <= 4 else ""
    return f"{len(numbers)} seeds{listed}"


def metric(name: str, value: float | None) -> str:
    """A metric with its name: errors in percent, others with four digits.

    >>> metric("test_error@precise", 0.0425), metric("test_loss", 0.123456), metric("steps_to_0.1", None)
    ('test_error@precise 4.25 %', 'test_loss 0.1235', 'steps_to_0.1 –')
    """
    if value is None:
        return f"{name} {label(None)}"
    return f"{name} " + (percent(value) if quantity(name).endswith("_error") else f"{value:.4g}")


def percent(fraction: float) -> str:
    """A fraction in percent.

    >>> percent(0.1033)
    '10.33 %'
    """
    return f"{100 * fraction:.2f} %"


def duration(seconds: float) -> str:
    """A time span in at most two units.

    >>> duration(4.21), duration(83), duration(7440)
    ('4.2 s', '1 min 23 s', '2 h 04 min')
    """
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
