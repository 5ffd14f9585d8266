"""Partners: the ranks that train one stack together, and what they exchange in a step.

Every rank holds the same weights and computes with its part of the workers (`normbench.ranks`). After the
backward pass one call adds over ranks, in one flat tensor: gradients, errors, losses and the statistics of
norms; of the last two it takes the mean. A norm moves its statistics by s ← s + w (new − s), and all ranks
begin at the same s. So the mean of the moved statistics is the statistic moved to the mean over all workers.
A norm whose statistics move in another way says so (`Norm.joins_workers`) and is refused.

All ranks evaluate the whole stack at the same time, each alone. The numbers of rank 0 count.

Cost:       one all-reduce per step, after the backward pass and not beside it.
Reference:  li2020 — PyTorch Distributed, VLDB 2020, arXiv:2006.15704, §3: the averaged gradients of equal
            parts are those of the whole step.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TypeVar

import torch
from torch import Tensor, distributed, nn

from normbench import norms, ranks
from normbench.errors import InputError
from normbench.norms import Norm
from normbench.ranks import Ranks
from normbench.spec import RunSpec

T = TypeVar("T")


class Partners:
    """Exchanges what the ranks compute for a stack.

    The network must not move to another device or layout afterwards.

    Args:
        together: the ranks; the process group has been joined.
        network:  on its device, with all its banks.
    """

    waits_for_host = "mean over ranks"

    def __init__(self, together: Ranks, network: nn.Module) -> None:
        self.ranks = together
        self.statistics = moved_statistics(network)

    def holding(self) -> AbstractContextManager[None]:
        """A context in which layers know which part of a step they are given."""
        return ranks.holding(self.ranks)

    def share(self, losses: Tensor) -> Tensor:
        """This rank's share of the mean loss of a step, from the mean loss of its images.

        So an image has the gradient that it has in the whole step. Some norms keep averages of gradients.
        """
        return losses / self.ranks.count

    @torch.no_grad()
    def combine(
        self, gradients: Sequence[Tensor], losses: Tensor, errors: Tensor
    ) -> tuple[list[Tensor], Tensor, Tensor]:
        """Average the statistics of norms in place; return what belongs to the whole step.

        Args:
            gradients: of this rank's share of the mean loss.
            losses:    mean loss of this rank's images, (K,).
            errors:    errors in this rank's images, (K,).

        Returns:
            Gradients and losses of the mean over all images of the step, and the errors in all of them.
        """
        mine = [*gradients, errors.to(losses.dtype), losses, *self.statistics]
        flat = torch.cat([t.reshape(-1) for t in mine])
        distributed.all_reduce(flat)
        sums = [
            part.view(t.shape) for part, t in zip(flat.split([t.numel() for t in mine]), mine, strict=True)
        ]
        count = len(gradients)
        means = torch._foreach_div(sums[count + 1 :], self.ranks.count)
        if self.statistics:
            torch._foreach_copy_(self.statistics, means[1:])
        return sums[:count], means[0], sums[count]

    def agreed(self, found: T) -> T:
        """What rank 0 found, for all ranks. Plain numbers and containers."""
        holder = [found]
        distributed.broadcast_object_list(holder, src=0)
        return holder[0]


def moved_statistics(network: nn.Module) -> list[Tensor]:
    """The tensors of a network's norms that training passes move: statistics, those of banks too."""
    parameters = {name for name, _ in network.named_parameters()}
    inside = tuple(f"{name}." for name, module in network.named_modules() if isinstance(module, Norm))
    return [
        tensor
        for name, tensor in network.state_dict().items()
        if name.startswith(inside) and name not in parameters and tensor.is_floating_point()
    ]


def check(spec: RunSpec, together: Ranks) -> None:
    """Refuse a run that the ranks cannot train together.

    Raises:
        InputError: W does not divide the workers, or the norm needs all workers at once.
    """
    if together.count == 1:
        return
    if spec.workers % together.count:
        raise InputError(
            f"{together.count} ranks share the workers of a step, so workers must be a multiple of "
            f"{together.count}; got workers={spec.workers}. Use another --nproc-per-node, or other workers"
        )
    joins = norms.entry(spec.norm.name).layer.joins_workers
    if joins:
        raise InputError(
            f"norm={spec.norm.name} cannot train on {together.count} ranks: its {joins} needs the images of "
            "all workers at once; train it without torchrun"
        )
    if spec.engine.graphs is True:
        raise InputError(
            f"engine.graphs=true cannot hold the exchange between {together.count} ranks; "
            "use engine.graphs=auto"
        )
