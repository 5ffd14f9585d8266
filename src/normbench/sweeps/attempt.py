"""Work on a stack that may fail: the failure as a value, and the memory of the stack freed."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable
from typing import NamedTuple

import torch

from normbench.errors import NormbenchError, StoreFailure, reason


class Failure(NamedTuple):
    """Why a stack failed. As text it keeps no tensors alive.

    reason:  one line.
    text:    the traceback.
    certain: it was raised on purpose, so that another attempt would fail likewise.
    """

    reason: str
    text: str
    certain: bool


def attempt(work: Callable[[], None], *others: type[Exception]) -> Failure | None:
    """Do the work. If it fails, free its memory and return the failure.

    Args:
        others: errors that are no failure of the stack. They are raised.

    Raises:
        StoreFailure: no result can be written. Smaller stacks would fail, too.
    """
    try:
        work()
    except Exception as error:
        if isinstance(error, (StoreFailure, *others)):
            raise
        failure = Failure(reason(error), traceback.format_exc(), isinstance(error, NormbenchError))
    else:
        return None
    gc.collect()  # here the exception is gone, and with it the tensors of its frames
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return failure
