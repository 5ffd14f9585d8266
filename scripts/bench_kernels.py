"""Compare norms with torch's own kernels on the same tensor: forward and backward pass in training, in turns.

    python scripts/bench_kernels.py [--seconds 1] [--shape 32,64,16,16 …]

Prints a Markdown table of ratios of medians. A ratio below 1 means that normbench is faster. The other side
is what a user of torch would write: nn.BatchNorm2d and nn.GroupNorm; nn.LayerNorm and nn.RMSNorm with the
channel axis moved to the end and back; F.batch_norm in a loop over the chunks for ghost batch norm.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from datetime import date
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from normbench import norms
from normbench.instruments import now
from normbench.sweeps.provenance import commit

SHAPES = ["32,64,16,16", "128,64,16,16", "8,256,8,8", "2,6,28,28", "2,16,10,10", "32,100"]


class Moved(nn.Module):
    """Applies a layer that works on the last axis to the channels."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x.movedim(1, -1)).movedim(-1, 1)


class Ghosts(nn.BatchNorm2d):
    """Batch norm on chunks of 16 images."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(
            [
                F.batch_norm(part, self.running_mean, self.running_var, self.weight, self.bias, True, 0.1)
                for part in x.split(16)
            ]
        )


def torchs(key: str, channels: int, axes: int) -> nn.Module | None:
    """torch's layer for a key; None if torch refuses the shape."""
    size = norms.build("gn", channels).num_groups
    flat = axes == 0
    return {
        "bn": (nn.BatchNorm1d if flat else nn.BatchNorm2d)(channels),
        "gn": nn.GroupNorm(size, channels),
        "ln_chw": nn.GroupNorm(1, channels),
        "ln_c": Moved(nn.LayerNorm(channels)),
        "in": None if flat else nn.InstanceNorm2d(channels, affine=True),
        "rms": Moved(nn.RMSNorm(channels, eps=1e-5)),
        "ghost": Ghosts(channels),
    }[key]


def seconds_of(layer: Callable[[Tensor], Tensor], x: Tensor, g: Tensor, parameters: list[Tensor]) -> float:
    began = now(x.device)
    torch.autograd.grad(layer(x), [x, *parameters], g)
    return now(x.device) - began


def ratio(key: str, shape: tuple[int, ...], seconds: float, device: str, layout: torch.memory_format) -> str:
    if key == "ghost" and shape[0] % 16:
        return "–"
    theirs = torchs(key, shape[1], len(shape) - 2)
    if theirs is None:
        return "–"
    ours = norms.build(key, shape[1]).to(device)
    theirs = theirs.to(device)
    x = torch.randn(*shape, device=device)
    if len(shape) == 4:
        x = x.contiguous(memory_format=layout)
    x.requires_grad_()
    g = torch.randn_like(x)
    sides = [(ours, []), (theirs, [])]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(sides[0][1]) < 20:
        for layer, times in sides:
            times.append(seconds_of(layer, x, g, list(layer.parameters())))
        sides.reverse()  # so that both sides find the other's data in the cache equally often
    mine, other = (times for layer, times in sorted(sides, key=lambda side: side[0] is theirs))
    return f"{median(mine) / median(other):.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seconds", type=float, default=1.0, help="per norm, shape and layout")
    parser.add_argument("--shape", action="append", metavar="N,C,H,W")
    args = parser.parse_args()
    torch.set_num_threads(1)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    name = torch.cuda.get_device_name() if device == "cuda" else "one CPU core"
    print(f"Commit {commit()}, {date.today()}, {name}, torch {torch.__version__}, fp32, training mode.\n")
    keys = ["bn", "gn", "ln_chw", "ln_c", "in", "rms", "ghost"]
    print("| x | layout | " + " | ".join(keys) + " |\n" + "|---" * (len(keys) + 2) + "|")
    for text in args.shape or SHAPES:
        shape = tuple(map(int, text.split(",")))
        layouts = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
        for title, layout in (
            layouts.items() if len(shape) == 4 else [("contiguous", torch.contiguous_format)]
        ):
            cells = [ratio(key, shape, args.seconds, device, layout) for key in keys]
            print(f"| {'×'.join(map(str, shape))} | {title} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
