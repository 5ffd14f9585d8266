"""The training loop of a stack: from a network and its images to the results of its runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from normbench.data.dataset import Dataset
from normbench.engine import starting_state
from normbench.engine.curve import curve_steps, diverged_at, summary
from normbench.engine.device import numerics
from normbench.engine.evaluate import Metrics, finite
from normbench.engine.final_state import final_states
from normbench.engine.initial_state import scale_by_first_images
from normbench.engine.meters import lanes_are_finite
from normbench.engine.plateau import Plateau
from normbench.engine.probes.along_training import Along
from normbench.engine.pulse import Pulse
from normbench.engine.schedule import multiplier
from normbench.engine.stack import Stack
from normbench.engine.stack_layout import StackLayout, describe_convolutions
from normbench.engine.state import LaneState, load_lanes, save_lanes
from normbench.engine.tally import Measured, numbers, tables
from normbench.engine.validation import evaluate_splits, validate
from normbench.ranks import ALONE, Ranks, holding
from normbench.record import Table
from normbench.spec import RunSpec


@dataclass(frozen=True)
class Result:
    """The result of training one run."""

    diverged_at: int | None  # the first step at which the run was not finite, see `engine.curve`
    metrics: Metrics
    history: tuple[Metrics, ...]
    seconds: float  # training time of the whole stack in this process, with evaluation
    step_seconds: float  # of these, time of the steps alone, of the whole stack
    about: dict[str, object]  # number of parameters, norms by site, graphs, layout and convolutions
    final_state: dict[str, Tensor]  # weights and the run's own statistics, on the CPU
    tables: dict[str, Table | None]  # measurements at the end that are not numbers
    diagnostics: tuple[dict[str, Any], ...] = ()  # what diagnostics found by layer, see `engine.probes`


@dataclass(frozen=True)
class Listener:
    """Callbacks of the loop, and the pulse that it shows.

    point:      called at every point of the curve, with the number of finished steps and the points of all
                runs.
    checkpoint: called at every point but the last, and after a step if `pulse.wanted` is set. It gets a
                function that returns the states of all runs. If it raises, training ends with that error.
    """

    point: Callable[[int, list[Metrics]], None] = lambda step, points: None
    checkpoint: Callable[[Callable[[], list[LaneState]]], None] = lambda states: None
    pulse: Pulse = field(default_factory=Pulse)


def train_stack(
    specs: Sequence[RunSpec],
    dataset: Dataset,
    device: torch.device,
    listener: Listener = Listener(),
    resume: Sequence[LaneState] | None = None,
    layout: StackLayout | None = None,
    together: Ranks = ALONE,
) -> list[Result]:
    """Train runs as one network of K lanes.

    Args:
        specs:    the runs, equal outside lane fields; a lone run is a stack of one. Runs that differ only in
                  the momentum of statistics that training never reads share a lane.
        dataset:  on the device, its images fitted to the model.
        listener: callbacks at every point of the curve.
        resume:   states of the runs, all at one step, in the order of specs.
        layout:   memory format and convolution algorithms; None: the defaults.
        together: the ranks that train the stack. Each calls this with the same arguments and its own place
                  and listener, and gets the same results.

    Returns:
        One result per run, in the order of specs.
    """
    with (
        numerics(specs[0].engine, device),
        holding(ALONE),  # evaluation and diagnostics; a step holds its part
        Stack(specs, dataset, device, layout, together) as stack,
    ):
        return _take_all_steps(stack, specs, dataset, listener, resume)


def _take_all_steps(
    stack: Stack,
    specs: Sequence[RunSpec],
    dataset: Dataset,
    listener: Listener,
    resume: Sequence[LaneState] | None,
) -> list[Result]:
    spec, assignment, lanes, steps = stack.spec, stack.assignment, stack.lanes, stack.steps
    network, optimizer, batches, meters = stack.network, stack.optimizer, stack.batches, stack.meters
    histories: list[list[Metrics]] = [[] for _ in specs]
    found: list[dict[str, Table | None]] = [{} for _ in specs]
    plateau = Plateau(spec.schedule, steps, len(specs))
    first = 0
    if resume is not None:
        first = load_lanes(network, optimizer, meters, assignment, resume)
        histories = [list(state["history"]) for state in resume]
        plateau.replay(histories)
        optimizer.scale_lanes(plateau.factors)
    else:
        scale_by_first_images(network, spec, batches, steps)
        starting_state.load(network, assignment)
        if network.average is not None:
            network.average.restart()
    points, evaluations = curve_steps(spec.eval, steps, batches.steps_per_epoch)
    diagnosis = Along(stack, dataset, evaluations, histories, resume)
    points |= plateau.checks | diagnosis.steps
    began = mark = time.perf_counter()
    step_seconds = 0.0

    def offer(done: int) -> None:
        listener.checkpoint(
            partial(save_lanes, network, optimizer, meters, assignment, done, histories, diagnosis.state())
        )

    pulse = listener.pulse
    pulse.step = first
    network.train()
    for step in range(first, steps):
        stack.step(step)
        done = pulse.step = step + 1
        if done not in points:
            if pulse.wanted:
                step_seconds += time.perf_counter() - mark
                offer(done)
                mark = time.perf_counter()
            pulse.stepping = True
            continue

        pulse.stepping = False
        loss, error, finite_lanes = meters.read()  # waits for the device
        step_seconds += time.perf_counter() - mark
        tests: list[list[Measured]] = [[{}] * lanes] * assignment.banks
        if done == steps:
            asked = spec.eval.conditions, assignment.banks, spec.eval.metrics
            tests = evaluate_splits(network, dataset, spec, *asked)
            found = [tables(tests[bank][k]) for k, bank in assignment.of]
        elif done in evaluations:
            tests = evaluate_splits(network, dataset, spec, banks=assignment.banks)
        elif done in plateau.checks:
            tests = validate(network, dataset, spec, banks=assignment.banks)
        if stack.partners is not None:
            tests = stack.partners.agreed(tests)
        runs = zip(specs, assignment.of, plateau.factors, histories, strict=True)
        for s, (k, bank), factor, history in runs:
            history.append(
                {
                    "step": done, "images_seen": done * spec.total, "epoch": done / batches.steps_per_epoch,
                    "lr": s.lr * factor * multiplier(spec.schedule, step, steps),
                    "train_loss": finite(loss[k]), "train_error": error[k], **numbers(tests[bank][k]),
                }
            )  # fmt: skip
        if done in plateau.checks:
            plateau.see([history[-1] for history in histories])
            optimizer.scale_lanes(plateau.factors)
        known = [[numbers(lane) for lane in lanes_of] for lanes_of in tests] if done in evaluations else []
        diagnosis.read(done, known)
        listener.point(done, [history[-1] for history in histories])
        if not any(finite_lanes):
            break
        if done < steps:
            offer(done)
        mark = time.perf_counter()

    seconds = time.perf_counter() - began
    loss_at = meters.first_nonfinite()
    finite_parameters = lanes_are_finite(network.parameters(), lanes)
    diverged = [
        diverged_at(history, loss_at[lane], steps=steps, finite_parameters=finite_parameters[lane])
        for (lane, _), history in zip(assignment.of, histories, strict=True)
    ]
    about: dict[str, object] = {
        "parameters": sum(p.numel() for p in network.parameters()) // lanes,
        "sites": {site: str(layer) for site, layer in network.norms().items()},
        "graphs": stack.step.graphs,
        **({"graph_breaks": stack.step.graph_breaks} if spec.engine.compile else {}),
        "layout": stack.layout.memory_format,
        "convolution": describe_convolutions(network),
        **({} if stack.partners is None else {"ranks": stack.partners.ranks.count}),
    }
    last_epoch = steps - batches.steps_per_epoch
    results = []
    states = final_states(network, assignment)
    each = zip(diverged, histories, states, found, diagnosis.rows, strict=True)
    for at, history, state, own, rows in each:
        metrics = summary(spec.eval, history, last_epoch, diverged=at is not None)
        metrics |= diagnosis.summary(history, diverged=at is not None)
        kept = own if at is None else dict.fromkeys(own)
        results.append(
            Result(at, metrics, tuple(history), seconds, step_seconds, about, state, kept, tuple(rows))
        )
    return results
