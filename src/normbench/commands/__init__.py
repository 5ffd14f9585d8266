"""The verbs of the command line. Each is a module with `run(argv) -> exit code`."""

from __future__ import annotations

VERBS = {
    "train": "train one run, or a sweep when a key lists several values",
    "plan": "show what a train command would run, without training",
    "status": "which runs of a sweep are done, running, failed or missing",
    "reproduce": "a paper's table: train the missing runs, render the table, check the claims",
    "new": "a commented start of your own: an ablation for reproduce, a norm, a model",
    "table": "a table with error bars from the runs at hand",
    "sync": "bring wandb up to date from the records at hand",
    "dashboard": "a wandb workspace or report for the runs at hand",
    "plot": "a figure from the runs at hand: lines, bars, curves, heat maps",
    "report": "a folder of pages: tables, verdicts, figures, every run with its command line",
    "check-norm": "check norms of your own, clause by clause, against the contract of a norm",
    "norms": "the catalogue of norms; with a key, its equation and arguments",
    "runs": "the runs at hand: status, size, age; rm removes runs, tag changes tags",
    "merge": "join other results folders into this one; nothing is overwritten",
    "migrate": "bring the records of earlier versions up to date",
    "cite": "BibTeX of what a sweep uses: norms, models, data, optimizers",
    "info": "one run: configuration, metrics, environment, how to rerun it",
    "export": "a trained run as an ordinary PyTorch module: safetensors and a builder, folded, ONNX",
    "doctor": "what works on this machine and what does not, each with its remedy",
    "bench": "speed of stacks, lone runs and a plain loop on this machine",
}
