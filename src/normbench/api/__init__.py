"""normbench from Python: sweeps and runs as values, and trained networks as modules.

>>> import normbench
>>> runs = normbench.sweep("norm=bn,gn batch=2 seed=range(3)")  # doctest: +SKIP
>>> runs.table(rows="norm", cols="batch")                       # doctest: +SKIP

Errors are exceptions with the text of the command line: `normbench.InputError` and `normbench.RunFailure`.
"""

from normbench.api.finding import runs
from normbench.api.loading import load
from normbench.api.run_set import Runs
from normbench.api.shown_table import ShownTable
from normbench.api.sweeping import sweep

__all__ = ["Runs", "ShownTable", "load", "runs", "sweep"]
