"""What the record of a run says about its training, beside metrics and curve."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from normbench.engine.train import Result
from normbench.parts import provenance
from normbench.record import Record
from normbench.sweeps.plan import Pack
from normbench.sweeps.provenance import commit, environment, job


def timing_of(result: Result, pack: Pack, first: int) -> dict[str, float]:
    """Seconds of the stack, seconds per run, run-steps per second, and seconds per run and step. The last is
    without evaluation, diagnostics and checkpoints; the others are with them.
    """
    share = result.seconds / len(pack.specs)
    steps = (result.history[-1]["step"] or 0) - first
    each = {"step_s": result.step_seconds / len(pack.specs) / steps} if steps else {}
    return {"stack_s": result.seconds, "train_s": share, "steps_per_s": steps / share, **each}


def record_of(
    pack: Pack, number: int, status: str, metrics: dict[str, float | None], history: tuple[dict[str, float |
          None], ...],
    timing: dict[str, float], about: dict[str, Any], diagnostics: tuple[dict[str, Any], ...] = (),
) -> Record:  # fmt: skip
    spec = pack.specs[number]
    [(lane, bank)] = [(lane, runs.index(spec)) for lane, runs in enumerate(pack.trainings) if spec in runs]
    device = about.pop("device", None)
    return Record(
        signature=spec.signature,
        spec=spec.model_dump(mode="json"),
        status=status,
        metrics=metrics,
        timing=timing,
        environment=environment() | ({"device": device} if device else {}),
        provenance={
            "stack_size": len(pack.trainings), "lane": lane, "bank": bank, "commit": commit(),
            "ended": datetime.now(UTC).isoformat(timespec="seconds"), **job(),
            **({"attempts": pack.attempt} if pack.attempt > 1 else {}), **about,
            **provenance(spec.model_dump(mode="json")),
        },
        history=history,
        diagnostics=diagnostics,
    )  # fmt: skip
