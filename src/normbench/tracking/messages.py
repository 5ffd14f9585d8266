"""The lines that report a sweep, the same on a terminal and in a log file."""

from __future__ import annotations

from typing import Any

from normbench.record import COMPLETE, DIVERGED, FAILED
from normbench.tracking.progress import Progress, Stack


def opening(progress: Progress) -> str:
    """The first line: how many runs were asked for and how many will train."""
    sweep = progress.sweep
    if not progress.to_train:
        return f"{_count(sweep.runs, 'run')}: all finished before, nothing to train"
    return (
        f"{_count(sweep.runs, 'run')}: {sweep.finished} finished before, "
        f"{progress.to_train} to train in {_count(sweep.stacks, 'stack')}"
    )


def state(progress: Progress, now: float) -> str:
    """Progress, rate and time left in one line."""
    total = progress.sweep.steps
    share = progress.done / total if total else 1.0
    parts = [f"{share:.0%}", f"{progress.done:,} of {total:,} run-steps", pace(progress, now)]
    return " · ".join([*parts, f"{_count(len(progress.stacks), 'stack')} training"])


def pace(progress: Progress, now: float) -> str:
    """Run-steps per second, and the time left if it is known."""
    left = progress.left_s(now)
    return f"{progress.rate(now):,.0f}/s" + ("" if left is None else f" · {duration(left)} left")


def ended(stack: Stack, progress: Progress, now: float) -> str:
    """The line for a stack that has ended."""
    parts = [f"{progress.ended}/{progress.to_train} {title(stack.spec, stack.runs)}"]
    if stack.test_error is not None:
        parts.append(f"test error {stack.test_error:.2%}".replace("%", " %"))
    parts += [f"{stack.statuses[s]} {s}" for s in (DIVERGED, FAILED) if stack.statuses[s]]
    return " · ".join([*parts, duration(now - stack.started)])


def closing(progress: Progress, now: float) -> str:
    """The last line: how many runs ended, in which time, with which status."""
    counts = [f"{progress.statuses[s]} {s}" for s in (COMPLETE, DIVERGED, FAILED) if progress.statuses[s]]
    took = duration(now - progress.started)
    return (
        f"{progress.ended} of {_count(progress.to_train, 'run')} ended in {took}"
        + (": " if counts else "")
        + ", ".join(counts)
    )


def split(spec: dict[str, Any], runs: int, reason: str) -> str:
    """Why a stack was split."""
    return f"{title(spec, runs)}: {reason}; its runs continue in smaller stacks"


def title(spec: dict[str, Any], runs: int) -> str:
    """A stack in a few words: model, norm, batch, number of runs.

    >>> title({"model": {"name": "lenet5"}, "norm": {"name": "bn"}, "batch": 2}, 8)
    'lenet5 bn batch 2 · 8 runs'
    """
    weight = spec.get("weight", {}).get("name", "none")
    norm = spec["norm"]["name"] + ("" if weight == "none" else f"+{weight}")
    workers = spec.get("workers", 1)
    batch = f"batch {spec['batch']}" + (f" × {workers} workers" if workers > 1 else "")
    return f"{spec['model']['name']} {norm} {batch} · {_count(runs, 'run')}"


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


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
