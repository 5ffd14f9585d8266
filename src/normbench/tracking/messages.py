"""The sentences that a sweep is told in, the same on a terminal and in a log file."""

from __future__ import annotations

from typing import Any

from normbench.record import COMPLETE, DIVERGED, FAILED
from normbench.tracking.progress import Progress, Stack


def opening(progress: Progress) -> str:
    """What was asked for, before anything trains."""
    sweep = progress.sweep
    if not progress.to_train:
        return f"{_count(sweep.runs, 'run')}: all finished before, nothing to train"
    return (
        f"{_count(sweep.runs, 'run')}: {sweep.finished} finished before, "
        f"{progress.to_train} to train in {_count(sweep.stacks, 'stack')}"
    )


def state(progress: Progress, now: float) -> str:
    """How far it is and how long it takes, in one line."""
    total = progress.sweep.steps
    share = progress.done / total if total else 1.0
    parts = [f"{share:.0%}", f"{progress.done:,} of {total:,} run-steps", pace(progress, now)]
    return " · ".join([*parts, f"{_count(len(progress.stacks), 'stack')} under way"])


def pace(progress: Progress, now: float) -> str:
    """Rate and time left, as far as they are known."""
    left = progress.left_s(now)
    return f"{progress.rate(now):,.0f}/s" + ("" if left is None else f" · {duration(left)} left")


def stack_ended(stack: Stack, progress: Progress, now: float) -> str:
    """One line for all runs of a stack."""
    parts = [f"{progress.ended}/{progress.to_train} {title(stack.spec, stack.runs)}"]
    if stack.test_error is not None:
        parts.append(f"test error {stack.test_error:.2%}".replace("%", " %"))
    parts += [f"{stack.statuses[s]} {s}" for s in (DIVERGED, FAILED) if stack.statuses[s]]
    return " · ".join([*parts, duration(now - stack.started)])


def closing(progress: Progress, now: float) -> str:
    """What became of the runs."""
    ways = [f"{progress.statuses[s]} {s}" for s in (COMPLETE, DIVERGED, FAILED) if progress.statuses[s]]
    took = duration(now - progress.started)
    return (
        f"{progress.ended} of {_count(progress.to_train, 'run')} ended in {took}"
        + (": " if ways else "")
        + ", ".join(ways)
    )


def split(spec: dict[str, Any], runs: int, reason: str) -> str:
    """Why a stack was given up."""
    return f"{title(spec, runs)}: {reason}; its runs go on in smaller stacks"


def title(spec: dict[str, Any], runs: int) -> str:
    """A stack in a few words.

    >>> title({"model": {"name": "lenet5"}, "norm": {"name": "bn"}, "batch": 2}, 8)
    'lenet5 bn batch 2 · 8 runs'
    """
    weight = spec.get("weight", {}).get("name", "none")
    norm = spec["norm"]["name"] + ("" if weight == "none" else f"+{weight}")
    workers = spec.get("workers", 1)
    batch = f"batch {spec['batch']}" + (f" × {workers} workers" if workers > 1 else "")
    return f"{spec['model']['name']} {norm} {batch} · {_count(runs, 'run')}"


def duration(seconds: float) -> str:
    """A time span at the precision that one reads.

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
