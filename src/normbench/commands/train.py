"""`normbench train`: one run, or a sweep. Hydra reads the words and hands configurations to `Training`."""

from __future__ import annotations

from collections.abc import Sequence


def run(argv: Sequence[str]) -> int:
    """Train what the words ask for and say what came of it; 1 if a run failed."""
    if list(argv) in (["-h"], ["--help"]):
        from normbench.commands.train_help import page

        print(page())
        return 0
    from normbench.commands.hydra_app import call_hydra, parse_flags
    from normbench.commands.summary import summary
    from normbench.commands.training import Training
    from normbench.errors import RunFailure
    from normbench.record import FAILED

    training = Training()
    flags = parse_flags(argv)
    try:
        call_hydra(flags, training)
    except RunFailure:
        if not training.records:
            raise  # else the summary says it, with all others that failed
    if training.records:
        print("\n".join(summary(training.records, training.store, trained=training.trained)))
    return int(any(record.status == FAILED for record in training.records))
