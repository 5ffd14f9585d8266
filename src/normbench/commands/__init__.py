"""The verbs of the command line, a module each with `run(argv) -> exit code`, and what they share."""

from __future__ import annotations

VERBS = {
    "train": "train one run, or a sweep when a key lists several values",
    "plan": "show what a train command would run; trains nothing",
    "reproduce": "a paper's table: train what is missing, render it, check its claims",
    "table": "a table with error bars from the runs at hand",
    "norms": "the catalogue of norms; with a key, its equation and arguments",
    "info": "one run: configuration, metrics, environment, how to rerun it",
    "bench": "throughput of stacks against lone runs and a plain loop, here",
}
