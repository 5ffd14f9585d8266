"""One rank of test_partners: `python rank_process.py RANK FOLDER` trains the cases that lie in FOLDER.

A case is the specifications of one stack. The ranks meet at a file, so no port is needed.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch import distributed

from normbench import data, models
from normbench.engine.train import Result, train_stack
from normbench.ranks import ALONE, Ranks
from normbench.spec import RunSpec


def train(specs: list[RunSpec], together: Ranks = ALONE) -> list[Result]:
    dataset = data.load(specs[0].data, size=models.fitted_size(specs[0]))
    return train_stack(specs, dataset, torch.device("cpu"), together=together)


def main(rank: int, folder: Path) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    states, curves = [], []
    for case in json.loads((folder / "cases.json").read_text()):
        results = train([RunSpec.model_validate(fields) for fields in case], Ranks(rank, 2))
        states.append([result.final_state for result in results])
        curves.append([[result.history, result.metrics, result.diverged_at] for result in results])
    torch.save(states, folder / f"states{rank}.pt")
    (folder / f"curves{rank}.json").write_text(json.dumps(curves, default=float))
    distributed.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(int(sys.argv[1]), Path(sys.argv[2]))
