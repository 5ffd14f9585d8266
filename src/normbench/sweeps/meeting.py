"""Where the ranks of torchrun meet: a key-value store for orders, and a process group for the exchange.

Rank 0 gives numbered orders; the others wait for them without a limit, because rank 0 may plan, load or
evaluate for long. Inside a training no rank waits longer than WAIT_S for another one.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import torch
from torch import distributed
from torch.distributed import PrefixStore  # type: ignore[attr-defined]
from torch.distributed.rendezvous import rendezvous

from normbench.errors import RanksParted, reason
from normbench.ranks import Ranks

#: Longest wait for another rank in training, in seconds. Then it counts as lost.
WAIT_S = 600
#: Longest wait of rank 0 for the others at the end, in seconds, so that it does not take the store from them.
FAREWELL_S = 10
TRAIN, END = "train", "end"


class Meeting:
    """One rank's connection to the others.

    Args:
        together: the ranks, as torchrun has started them.

    Attributes:
        joined: whether the process group exists: from the first training on.
        broken: whether a training failed or was interrupted, so that ranks may wait for each other in vain.
    """

    def __init__(self, together: Ranks) -> None:
        self.ranks, self.joined, self.broken, self._orders = together, False, False, 0
        store, _, _ = next(rendezvous("env://", timeout=timedelta(days=7)))
        self._store = PrefixStore("normbench", store)

    def give_order(self, order: str) -> None:
        """As rank 0, tell the others what to do next: TRAIN or END."""
        self._store.set(f"order {self._orders}", order)
        self._orders += 1

    def next_order(self) -> str:
        """Wait for the next order of rank 0."""
        key = f"order {self._orders}"
        self._orders += 1
        while True:
            try:
                self._store.wait([key], timedelta(seconds=60))
            except distributed.DistStoreError:  # not yet
                continue
            return self._store.get(key).decode()

    def exchange_job(self, job: Any = None) -> Any:
        """Join the process group; return the job that rank 0 gives, in all ranks."""
        if not self.joined:
            gpus = torch.cuda.is_available() and distributed.is_nccl_available()
            distributed.init_process_group(
                "cpu:gloo,cuda:nccl" if gpus else "gloo",
                store=PrefixStore("group", self._store),
                rank=self.ranks.number,
                world_size=self.ranks.count,
                timeout=timedelta(seconds=WAIT_S),
            )
            self.joined = True
        holder = [job]
        distributed.broadcast_object_list(holder, src=0)
        return holder[0]

    def explain(self, error: Exception) -> RanksParted | SystemExit:
        """What a rank must raise in place of an error of its training.

        The first rank that fails prints the reason. The others end without a word.
        """
        self.broken = True
        if not self._first_to_speak():
            return SystemExit(1)
        place = f"rank {self.ranks.number} of {self.ranks.count}"
        if not _is_loss(error):
            return RanksParted(f"{place} failed: {reason(error)}")
        return RanksParted(
            f"{place} has lost another rank, which ended or was silent for {WAIT_S} s; "
            "the same command goes on from the last checkpoint"
        )

    def _first_to_speak(self) -> bool:
        try:
            return bool(self._store.add("spoken", 1) == 1)
        except RuntimeError:  # the store went with rank 0
            return True

    def leave(self) -> None:
        """End: rank 0 sends the others home, and waits until they have left if all is well."""
        if self.ranks.number == 0:
            if self.broken:
                self._first_to_speak()  # what the command prints is enough
            self.give_order(END)
        if self.broken:
            return
        if self.joined:
            distributed.destroy_process_group()
        self._store.set(f"left {self.ranks.number}", "")
        if self.ranks.number == 0:
            keys = [f"left {number}" for number in range(self.ranks.count)]
            self._store.wait(keys, timedelta(seconds=FAREWELL_S))


def _is_loss(error: Exception) -> bool:
    """Whether an error says that another rank cannot be reached. gloo has no exceptions of its own."""
    return isinstance(error, distributed.DistError) or (
        isinstance(error, RuntimeError) and any(word in str(error) for word in ("gloo", "NCCL"))
    )
