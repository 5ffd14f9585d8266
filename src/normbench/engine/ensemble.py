"""The ensemble of runs that differ in their seed alone: the mean of their predicted probabilities.

    p(y | x) = 1/M Σ_m softmax(z_m(x))_y           z_m the logits of run m by running statistics

    ensemble_error   share of test images whose most probable class is wrong
    ensemble_nll     mean of −log p(label | x)
    ensemble_ece     calibration error of p, as `engine.quality`

Reference: lakshminarayanan2017 — Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles,
           NeurIPS 2017, arXiv:1612.01474, §2.4.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from normbench.data.dataset import Dataset
from normbench.engine.device import numerics
from normbench.engine.evaluate import predictions
from normbench.engine.evaluate_again import restored
from normbench.engine.tally import Tally
from normbench.parts import trains_alone
from normbench.record import Metrics
from normbench.spec import RunSpec

#: Most runs that are evaluated as one network.
TOGETHER = 16


def ensemble(
    specs: Sequence[RunSpec], states: Sequence[dict[str, Tensor]], dataset: Dataset, device: torch.device
) -> Metrics:
    """ensemble_error, ensemble_nll and ensemble_ece of some runs; None where a number is not finite.

    Args:
        specs:   the runs, equal except for their seeds.
        states:  their final states, in the order of specs.
        dataset: on the device, its images fitted to the model.

    Raises:
        ValueError: a state belongs to another network.
    """
    together = 1 if trains_alone(specs[0].model.name) else TOGETHER
    sums: list[Tensor] = []
    labels: list[Tensor] = []
    with numerics(specs[0].engine, device):
        for start in range(0, len(specs), together):
            some = slice(start, start + together)
            network, _ = restored(specs[some], states[some], dataset, device)
            parts = list(predictions(network, dataset, specs[0]))
            sums.append(torch.cat([logits.double().softmax(2).sum(1) for logits, _ in parts]))
            labels = [y for _, y in parts]
    log_mean = (torch.stack(sums).sum(0) / len(specs)).log()
    tally = Tally(1, dataset.classes, device, ("nll", "ece"))
    tally.add(log_mean.unsqueeze(1), torch.cat(labels))
    found = tally.read()[0]
    return {f"ensemble_{name}": found[f"test_{name}"] for name in ("error", "nll", "ece")}  # type: ignore[misc]
