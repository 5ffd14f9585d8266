"""Normalization ablations: stacked training, plans, and tables with error bars."""

__version__ = "0.2.0"
