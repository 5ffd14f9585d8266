"""The results of `normbench bench`, as aligned text for a terminal and as a page in Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from normbench.commands.text_table import columns, pipes

Row = dict[str, str]

TITLES = {
    "cells": "Run-steps per second, and the stack's rate over each other's: median (lowest to highest round)",
    "peaks": "The work of one run's step, and the share of the machine's peaks that a stack reaches",
    "phases": (
        "Time of a step, time until its call returns on the host, time in which the device was busy; "
        "phases of a step, in percent of its time"
    ),
    "banks": "Time of a step with several banks of statistics, relative to one bank",
}
HEAD = """\
# Throughput: stacks against lone runs and a plain loop

Command: `{command}`. Commit {commit}, {date}, {device}, torch {torch}, {precision}, {processes}.
{rounds} alternating rounds, {seconds:g} s per contestant; ratios are taken within a round. Only steps are
timed, without evaluation and start-up. `src/normbench/bench/__init__.py` defines each number. The JSON file
beside this one holds all rounds.
"""


def text(found: dict[str, Any]) -> list[str]:
    """Lines for a terminal."""
    return list(_sections(found, str, columns))


def page(found: dict[str, Any]) -> str:
    """The page in Markdown."""
    count = found["processes"]
    about = found | {
        "commit": found["commit"] or "unknown",
        "processes": f"{count} process{'es' * (count > 1)}" + " of one thread" * (found["kind"] == "cpu"),
    }
    return "\n".join([HEAD.format(**about), *_sections(found, "## {}\n".format, pipes)]) + "\n"


def _sections(
    found: dict[str, Any],
    title: Callable[[str], str],
    table: Callable[[Sequence[Row]], Sequence[str] | Iterator[str]],
) -> Iterator[str]:
    peaks = found["peaks"]
    others = [
        name for name in ("lone", "plain", "tuned") if any(name in cell["ratio"] for cell in found["cells"])
    ]
    sections = {
        "cells": [_cell(cell, others) for cell in found["cells"]],
        "peaks": [_share(cell) for cell in found["cells"]],
        "phases": [_phases(cell) for cell in found["cells"]],
        "banks": [
            _where(b) | {"banks": str(b["banks"]), "ratio": _spread(b["ratio"])} for b in found["banks"]
        ],
    }
    for name, rows in sections.items():
        if rows:
            yield from (title(TITLES[name]), *table(rows), "")
    yield (
        f"peaks: {peaks['flops_per_s'] / 1e9:.0f} GFLOP/s in a matrix product, "
        f"{peaks['bytes_per_s'] / 2**30:.0f} GiB/s in a copy, "
        f"{peaks['cache_bytes_per_s'] / 2**30:.0f} in a cache"
    )
    yield from (f"note: {note}" for note in found["notes"])


def _where(entry: dict[str, Any]) -> Row:
    return {"model": entry["model"], "batch": str(entry["batch"]), "lanes": str(entry["lanes"])}


def _cell(cell: dict[str, Any], others: Sequence[str]) -> Row:
    rates = {name: f"{spread['median']:.4g}" for name, spread in cell["run_steps_per_s"].items()}
    ratios = {f"/ {name}": _spread(cell["ratio"].get(name)) for name in others}
    return _where(cell) | {name: rates.get(name, "–") for name in ("stack", *others)} | ratios


def _share(cell: dict[str, Any]) -> Row:
    step, share = cell["per_run_step"], cell["share"]
    return _where(cell) | {
        "MFLOP": f"{step['flops'] / 1e6:.3g}",
        "% of product": f"{100 * share['flops']:.3g}",
        "MiB": f"{step['bytes'] / 2**20:.3g}",
        "% of copy": f"{100 * share['bytes']:.3g}",
        "MiB with activations": f"{step['bytes_with_activations'] / 2**20:.3g}",
        "% of copy, with": f"{100 * share['bytes_with_activations']:.3g}",
    }


def _phases(cell: dict[str, Any]) -> Row:
    shares = {name: f"{100 * s / cell['step_s']:.0f}" for name, s in cell["phases_s"].items()}
    busy = cell["step_s"] - cell["phases_s"]["other"]
    times = {"step, ms": cell["step_s"], "host, ms": cell["host_s"], "busy, ms": busy}
    return _where(cell) | {name: f"{1e3 * s:.3g}" for name, s in times.items()} | shares


def _spread(spread: dict[str, Any] | None) -> str:
    if spread is None:
        return "–"
    return f"{spread['median']:.2f} ({spread['min']:.2f}–{spread['max']:.2f})"
