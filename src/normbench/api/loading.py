"""`normbench.load`: a trained run as an ordinary PyTorch module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normbench.api.words import Words, of_train
from normbench.commands.one_run import one_trained_run
from normbench.record import Record
from normbench.store import Store

if TYPE_CHECKING:
    from normbench.export.parts import TrainedNetwork


def load(run: Words | Record, *, fold: bool = False, config_dir: str | None = None) -> TrainedNetwork:
    """The trained network of a run, ready to use: in evaluation mode, on the CPU, with the run's own bank.

    It consists of torch's own layers. A norm that torch does not have is our layer with one lane. It takes
    standardized images (N, C, H, W) and gives logits (N, classes). `network.preprocess(images)` standardizes
    uint8 images; `network.about` has class names, metrics and more.

    >>> network = normbench.load("3f2a9c")               # doctest: +SKIP
    >>> network(network.preprocess(images)).argmax(1)    # doctest: +SKIP

    Args:
        run:        the start of a signature, a record, or words of train that are one run.
        fold:       make norms part of the layers next to them where that is exact.
        config_dir: a folder with your own choices; by default `./conf`.

    Raises:
        InputError: an unknown run, several runs, or one that keeps no final state.
    """
    from normbench.export.restored import restore

    store = Store.default()
    names = [run.signature] if isinstance(run, Record) else of_train(run)
    record = one_trained_run(names, store, config_dir)
    return restore(record, store, fold=fold).network
