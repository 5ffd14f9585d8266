"""A child process that ends at once at its n-th file operation, as if it had been killed there."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import count

KILLED = 9


def killed_at(last: int, work: Callable[[], object]) -> bool:
    """Do work in a forked process that dies instead of its operation number `last`. False if it has ended
    before.
    """
    child = os.fork()
    if child == 0:
        try:
            _trap(last)
            work()
        except BaseException:
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, KILLED), code
    return code == KILLED


def _trap(last: int) -> None:
    numbers = count()

    def trapped(real: Callable[..., object]) -> Callable[..., object]:
        def operation(*args: object, **options: object) -> object:
            if next(numbers) == last:
                os._exit(KILLED)
            return real(*args, **options)

        return operation

    for name in ("replace", "link", "unlink", "rename", "mkdir", "rmdir", "fsync"):
        setattr(os, name, trapped(getattr(os, name)))
