"""Work on a stack that may fail: the failure as a value, and the memory of the stack freed."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable
from typing import NamedTuple

import torch

from normbench.errors import RunFailure, reason


class Failure(NamedTuple):
    """Why a stack failed: one line, and the traceback. As text it keeps no tensors alive."""

    reason: str
    text: str


def attempt(work: Callable[[], None]) -> Failure | None:
    """Do the work. If it fails, free its memory and return the failure.

    Raises:
        RunFailure: raised by the work itself. It would fail with a smaller stack, too.
    """
    try:
        work()
    except RunFailure:
        raise
    except Exception as error:
        failure = Failure(reason(error), traceback.format_exc())
    else:
        return None
    gc.collect()  # here the exception is gone, and with it the tensors of its frames
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return failure
