"""Clauses about what a method declares: each flag must be true if and only if the layer behaves so."""

from __future__ import annotations

import torch

from normbench import parts
from normbench.norms.contract.subject import IMAGES, Subject, changed, check, draw, gradients, near, state_of
from normbench.norms.registry import has_banks
from normbench.norms.running import RunningNorm


def _declared(subject: Subject, flag: str, declared: bool, found: bool, meaning: str) -> None:
    verb = "does" if found else "does not"
    check(
        declared == found,
        f"{flag}={declared} is declared, but the layer {verb} {meaning}; declare {flag}={found}",
    )


def _can_declare_banks(subject: Subject) -> bool:
    """Whether a method may declare `banks`: of the norms of plugins, only running norms may."""
    return parts.find("norm", subject.key) is None or issubclass(subject.entry.layer, RunningNorm)


def moving_state(subject: Subject) -> None:
    """State changes in training exactly if evaluation differs."""
    layer = subject.make()
    before = state_of(layer)
    layer(draw(IMAGES))
    moved = changed(layer, before)
    if subject.entry.eval_differs:
        check(bool(moved), "eval_differs=True is declared, but training leaves no state for evaluation")
    else:
        check(not moved, f"training changes {', '.join(moved)}, but eval_differs=False is declared")


def eval_differs(subject: Subject) -> None:
    """`eval_differs`: the output in evaluation differs from that in training."""
    layer, x = subject.make(), draw(IMAGES)
    evaluated = layer.eval()(x)  # first, because training on x may move the statistics of evaluation
    differs = not torch.equal(layer.train()(x), evaluated)
    _declared(subject, "eval_differs", subject.entry.eval_differs, differs, "differ in evaluation")


def batch_statistics(subject: Subject) -> None:
    """`batch_statistics`: in training, the output of an image depends on the other images of the batch."""
    x = draw(IMAGES)
    other = torch.cat([draw(IMAGES, 1)[:-1], x[-1:]])
    depends = not torch.equal(subject.make()(x)[-1], subject.make()(other)[-1])
    declared = subject.entry.batch_statistics
    _declared(subject, "batch_statistics", declared, depends, "mix images of a batch")


def image_alone(subject: Subject) -> None:
    """Without batch statistics, an image alone comes out as in a batch."""
    if subject.entry.batch_statistics:
        return
    layer = subject.make()
    for shape in subject.shapes(layer):
        x = draw(shape)
        near(layer(x[2:3]), layer(x)[2:3], 1e-13, "an image alone comes out differently", relative=1e-13)


def reads_history(subject: Subject) -> None:
    """Training reads what earlier batches left exactly if `eval_differs` and not `banks`."""
    fresh, seasoned = subject.make(), subject.make()
    for step in (0, 1):
        seasoned.begin_step(step, 3)
        seasoned(draw(IMAGES, 1 + step))
    fresh.begin_step(2, 3)
    seasoned.begin_step(2, 3)
    x = draw(IMAGES)
    reads = not torch.equal(fresh(x), seasoned(x))
    declared = subject.entry.reads_history
    if declared and not _can_declare_banks(subject):
        return
    check(
        declared == reads,
        f"eval_differs and banks declare that training {'reads' if declared else 'does not read'} earlier "
        f"batches, but it {'reads' if reads else 'does not read'} them",
    )


def banks(subject: Subject) -> None:
    """`banks`: there are running statistics, and training never reads them, whatever they hold."""
    layer, other = subject.make(), subject.make()
    for step in (0, 1):  # until full buffers and the last phase of every schedule
        for each in (layer, other):
            each.begin_step(step, 2)
            gradients(each, draw(IMAGES, 1 + step))
    statistics = [name for name, _ in other.named_buffers() if name in other.state_dict()]
    with torch.no_grad():
        for name in statistics:
            buffer = other.get_buffer(name)
            buffer.copy_(buffer + 3)
    unread = torch.equal(layer(draw(IMAGES)), other(draw(IMAGES)))
    found = bool(statistics) and unread
    if not _can_declare_banks(subject):
        return
    _declared(subject, "banks", has_banks(subject.key), found, "keep statistics that training never reads")


def absorbs_bias(subject: Subject) -> None:
    """`absorbs_bias`: a bias added just before the layer has no effect in training."""
    layer = subject.make()
    gradients(layer, draw(IMAGES, 2))  # the first batch is special for norms that read history
    layer.begin_step(2, 3)  # late in a run, after the first phase of every schedule
    bias = torch.zeros(IMAGES[1], dtype=torch.float64, requires_grad=True)
    y = layer(draw(IMAGES) + bias[:, None, None])
    (grad,) = torch.autograd.grad((y * draw(IMAGES, 1)).sum(), bias)
    found = bool(grad.abs().max() < 1e-10)
    _declared(subject, "absorbs_bias", subject.entry.absorbs_bias, found, "remove a bias before it")


CLAUSES = (
    moving_state, eval_differs, batch_statistics, image_alone, reads_history, banks, absorbs_bias,
)  # fmt: skip
