"""The training loop: K runs, one network, one straight path from images to results."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from normbench import models
from normbench.data.batches import Batches
from normbench.data.dataset import Dataset
from normbench.engine.curve import milestones, summary
from normbench.engine.device import STORAGE, casting, layout
from normbench.engine.evaluate import Metrics, evaluate, finite, lane_losses
from normbench.engine.meters import Meters
from normbench.engine.optim import Optimizer
from normbench.engine.schedule import multiplier
from normbench.engine.seats import Seats
from normbench.engine.state import LaneState, load_lanes, save_lanes
from normbench.models import lsuv
from normbench.spec import RunSpec


@dataclass(frozen=True)
class Result:
    """What training one lane came to."""

    diverged_at: int | None  # the first step whose loss was not finite
    metrics: Metrics
    history: tuple[Metrics, ...]
    seconds: float  # of the whole stack, in this process
    network: dict[str, object]  # parameters of one run, and what stands at each site


@dataclass(frozen=True)
class Listener:
    """Whom the loop tells, without knowing them; a checkpoint is offered at every point of the curve."""

    point: Callable[[int, list[Metrics]], None] = lambda step, points: None
    checkpoint: Callable[[Callable[[], list[LaneState]]], None] = lambda states: None


def train_stack(
    specs: Sequence[RunSpec],
    dataset: Dataset,
    device: torch.device,
    listener: Listener = Listener(),
    resume: Sequence[LaneState] | None = None,
) -> list[Result]:
    """Train runs as one network of K lanes.

    Args:
        specs:    the runs, equal but for lane fields; a lone run is a stack of one. Those that differ only in
                  the momentum of statistics that training never reads share a lane.
        dataset:  on the device, its images fitted to the model.
        listener: told of every point of the curve.
        resume:   states of the lanes, all at one step, in the order of specs.
    """
    spec, seats = specs[0], Seats(specs)
    lanes = len(seats.lanes)
    steps = spec.length(len(dataset.train_labels))
    network = models.build(seats.lanes, dataset.shape)
    seats.furnish(network)
    network.to(device, STORAGE[spec.engine.precision]).to(memory_format=layout(device))
    optimizer = Optimizer(dict(network.named_parameters()), network.roles(), seats.lanes)
    batches = Batches(
        dataset, [s.seed for s in seats.lanes], spec.total, flip=spec.data.flip, crop=spec.data.crop,
        channels_last=layout(device) == torch.channels_last, dtype=STORAGE[spec.engine.precision],
    )  # fmt: skip
    meters = Meters(lanes, spec.total, device)
    histories: list[list[Metrics]] = [[] for _ in specs]
    first = 0
    if resume is not None:
        first = load_lanes(network, optimizer, meters, seats, resume)
        histories = [list(state["history"]) for state in resume]
    elif spec.model.init == "lsuv":
        network.begin_step(0, steps)
        lsuv.equalize(network, first_images(batches, lsuv.IMAGES, spec.total), lanes)
    points, evaluations = milestones(spec.eval, steps, batches.steps_per_epoch)
    began = time.perf_counter()

    network.train()
    for step in range(first, steps):
        x, y = batches.at(step)
        network.begin_step(step, steps)
        with casting(spec.engine, device):
            logits = network(x)
        losses = lane_losses(logits, y, spec.optim.label_smoothing).mean(0)  # (K,)
        gradients = torch.autograd.grad(losses.sum(), optimizer.parameters)
        optimizer.step(gradients, multiplier(spec.schedule, step, steps))
        meters.add(losses.detach(), logits.detach(), y)
        if (done := step + 1) not in points:
            continue

        loss, error, sound = meters.read()
        tests: list[list[Metrics]] = [[{}] * lanes] * seats.banks
        if done in evaluations:
            tests = evaluate(network, dataset, spec, final=done == steps, banks=seats.banks)
        for s, (k, bank), history in zip(specs, seats.of, histories, strict=True):
            history.append(
                {
                    "step": done, "images_seen": done * spec.total, "epoch": done / batches.steps_per_epoch,
                    "lr": s.lr * multiplier(spec.schedule, step, steps),
                    "train_loss": finite(loss[k]), "train_error": error[k], **tests[bank][k],
                }
            )  # fmt: skip
        listener.point(done, [history[-1] for history in histories])
        if not any(sound):
            break
        listener.checkpoint(partial(save_lanes, network, optimizer, meters, seats, done, histories))

    seconds = time.perf_counter() - began
    diverged = [
        None if ok else at for ok, at in zip(meters.sound.tolist(), meters.sound_steps.tolist(), strict=True)
    ]
    about = {
        "parameters": sum(p.numel() for p in network.parameters()) // lanes,
        "sites": {site: str(layer) for site, layer in network.norms().items()},
    }
    last_epoch = steps - batches.steps_per_epoch
    return [
        Result(
            at,
            summary(spec.eval, history, last_epoch, diverged=at is not None),
            tuple(history),
            seconds,
            about,
        )
        for at, history in zip((diverged[lane] for lane, _ in seats.of), histories, strict=True)
    ]


def first_images(batches: Batches, least: int, total: int) -> torch.Tensor:
    """The images of the first steps as one batch: `least` of them or a few more, at most one epoch's."""
    steps = min(-(-least // total), batches.steps_per_epoch)
    return torch.cat([batches.at(step)[0] for step in range(steps)])
