"""Fully connected nets: hidden layers with norm and activation, then a linear classifier."""

from __future__ import annotations

from torch import nn

from normbench.models.builder import Builder


def mlp(b: Builder) -> nn.Module:
    """Hidden layers of the widths in `model.hidden`; sites fc1, fc2, …"""
    return _mlp(b, b.spec.model.hidden or ())


def lenet300(b: Builder) -> nn.Module:
    """LeNet-300-100 (lecun1998 §III): 266,610 parameters on 28×28 grey images without norms."""
    return _mlp(b, (300, 100))


def _mlp(b: Builder, hidden: tuple[int, ...]) -> nn.Module:
    net = nn.Sequential()
    net.append(nn.Flatten())
    width = b.image.channels * b.image.size**2
    for i, outputs in enumerate(hidden, 1):
        site = f"fc{i}"
        net.append(b.unit(site, b.linear(site, width, outputs, read_by=b.reader(site)), outputs))
        net.append(b.dropout(site))
        width = outputs
    net.append(b.head(width))
    return net
