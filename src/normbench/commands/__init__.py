"""The verbs of the command line. Each is a module with `run(argv) -> exit code`."""

from __future__ import annotations

VERBS = {
    "train": "train one run, or a sweep when a key lists several values",
    "plan": "show what a train command would run, without training",
    "reproduce": "a paper's table: train the missing runs, render the table, check the claims",
    "new": "a commented example of an ablation of your own, for reproduce",
    "table": "a table with error bars from the runs at hand",
    "dashboard": "a wandb workspace or report for the runs at hand",
    "plot": "a figure from the runs at hand: lines, bars, curves, heat maps",
    "report": "a folder of pages: tables, verdicts, figures, every run with its command line",
    "check-norm": "check norms of your own, clause by clause, against the contract of a norm",
    "norms": "the catalogue of norms; with a key, its equation and arguments",
    "info": "one run: configuration, metrics, environment, how to rerun it",
    "bench": "speed of stacks, lone runs and a plain loop on this machine",
}
