"""One process of test_sync_norm: `python sync_process.py RANK FOLDER` answers the cases that lie in FOLDER.

A case is what its function takes as keywords, and holds what each process gets as a list by rank.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from normbench import norms


def steps(rank: int, args: dict, lanes: int, state: dict, xs: list, gs: list) -> dict:
    """Some training steps and an evaluation that the other process has no part in."""
    layer = norms.build("sync", 6, lanes, **args)
    layer.to(xs[0][rank].dtype).load_state_dict(state)
    if len(xs[0][rank]):
        layer.check(xs[0][rank].shape)
    outputs, gradients = [], []
    for x, g in zip(xs, gs, strict=True):
        x = x[rank].requires_grad_()
        y = layer(x)
        outputs.append(y.detach())
        gradients.append(torch.autograd.grad(y, [x, *layer.parameters()], g[rank]))
    evaluated = None
    if rank == 0:
        layer.eval().source = "batch"
        evaluated = layer(torch.cat([x[rank].detach() for x in xs]))
    return {"outputs": outputs, "gradients": gradients, "state": layer.state_dict(), "evaluated": evaluated}


def averaged(rank: int, state: dict, x: list, target: list) -> dict:
    """Gradients of a mean loss as DistributedDataParallel averages them."""
    layer = norms.build("sync", 6).double()
    layer.load_state_dict(state)
    model = DistributedDataParallel(layer)
    torch.nn.functional.mse_loss(model(x[rank]), target[rank]).backward()
    return {name: parameter.grad for name, parameter in layer.named_parameters()}


def main(rank: int, folder: Path) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    cases = torch.load(folder / "cases.pt", weights_only=True)
    answers = [globals()[case.pop("ask")](rank, **case) for case in cases]
    torch.save(answers, folder / f"answers{rank}.pt")
    distributed.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]), Path(sys.argv[2]))
