"""`normbench train`: one run, or a sweep. Hydra reads the words and passes configurations to `Training`."""

from __future__ import annotations

from collections.abc import Sequence


def run(argv: Sequence[str]) -> int:
    """Train the runs that the words ask for and print a summary; 1 if a run failed."""
    if list(argv) in (["-h"], ["--help"]):
        from normbench.commands.train_help import page

        print(page())
        return 0
    from normbench.commands.hydra_app import call_hydra, parse_flags
    from normbench.commands.summary import summary
    from normbench.commands.training import Training
    from normbench.errors import RunFailure
    from normbench.plugins import loading
    from normbench.record import FAILED
    from normbench.visible import visible

    training = Training()
    flags = parse_flags(argv)
    try:
        call_hydra(flags, training)
    except RunFailure:
        if not training.records:
            raise  # otherwise the summary lists all runs that failed
    for said, why in dict.fromkeys((run.words, run.reason) for run in training.skipped):
        print(visible(f"n/a      {said or 'this run'}: {why}"))
    if training.records:
        words = flags.reading_words and [*loading.flags(), *flags.reading_words]
        lines = summary(
            training.records, training.store,
            trained=training.trained, elsewhere=training.elsewhere, words=words,
        )  # fmt: skip
        print("\n".join(map(visible, lines)))
    return int(any(record.status == FAILED for record in training.records))
