"""Layers under the names of timm's classes, so that tests need no timm."""

from __future__ import annotations

from torch import nn


def as_of(module: str):
    """Class decorator: the class and its forward say that they were defined in another module."""

    def rename(cls):
        cls.__module__ = cls.forward.__module__ = module
        return cls

    return rename


@as_of("timm.layers.norm_act")
class BatchNormAct2d(nn.BatchNorm2d):
    """Batch norm with an activation inside."""

    def __init__(self, channels, act):
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), act

    def forward(self, x):
        return self.act(self.drop(super().forward(x)))
