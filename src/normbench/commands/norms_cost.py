"""`normbench norms --cost`: time and memory of every norm relative to batch norm, on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import torch

from normbench import norms
from normbench.commands.text_table import columns, pipes
from normbench.errors import InputError
from normbench.norms.cost import Cost, cost
from normbench.sweeps.provenance import commit

HEAD = """\
# The cost of a norm: time and memory relative to batch norm on the same input

Command: `{command}`. Commit {commit}, {date}, {device}, torch {torch}, one thread, fp32, training mode.
forward, backward, both: median ratio over alternating rounds. memory: bytes kept for the backward pass,
with the input.
"""


def show(shapes: Sequence[str], seconds: float, form: str) -> None:
    """Measure every norm and print the table.

    Args:
        shapes:  "N,C,H,W" each, any number of spatial axes.
        seconds: per norm and shape.
        form:    "rich" for aligned text, "md" for a page that also states the command and the machine.
    """
    sizes = [_shape(text) for text in shapes]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(1)
    rows = [_row(key, sizes, seconds, device) for key in norms.catalogue()]
    if form == "rich":
        print("\n".join(columns(rows)))
        return
    words = " ".join(["normbench norms --cost", *(f"--shape {text}" for text in shapes), "--format md"])
    name = torch.cuda.get_device_name() if device == "cuda" else "one CPU core"
    print(HEAD.format(
        command=words, commit=commit() or "unknown", date=date.today(), device=name, torch=torch.__version__,
    ))  # fmt: skip
    print("\n".join(pipes(rows)))


def _row(key: str, sizes: Sequence[tuple[int, ...]], seconds: float, device: str) -> dict[str, str]:
    row = {"key": key}
    for size in sizes:
        measured = cost(key, size, seconds, device)
        title = "×".join(map(str, size))
        for name in ("forward", "backward", "both", "memory"):
            row[f"{title} {name}"] = _written(measured, name)
    return row


def _written(measured: Cost | None, name: str) -> str:
    return "refused" if measured is None else f"{getattr(measured, name):.2f}"


def _shape(text: str) -> tuple[int, ...]:
    try:
        size = tuple(map(int, text.split(",")))
    except ValueError:
        size = ()
    if len(size) < 2 or min(size) < 1:
        raise InputError(f"--shape must be whole numbers N,C,…, such as 32,64,16,16; got '{text}'")
    return size
