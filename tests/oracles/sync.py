"""Synchronized batch normalization in one process: batch norm of all workers' images."""

from __future__ import annotations

from oracles.bn import VARIANTS, evaluated, output

INVARIANT = {"scale", "shift", "weight", "filters"}

__all__ = ["VARIANTS", "evaluated", "output"]
